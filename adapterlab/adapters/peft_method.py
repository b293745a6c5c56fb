"""Methods of the library PEFT as adapters: `adapter("peft:HIRA", r=32)`.

The name is `peft:` and PEFT's own name of the method (its `peft_type`); the hyperparameters are the fields of PEFT's config
class, with PEFT's defaults. `adapterlab.surgery.sites.peft` lets PEFT inject its layers into the model.

>>> from adapterlab.adapters import adapter
>>> method = adapter("peft:HIRA", r=4)
>>> method.settings(), method.size_knob
({'name': 'peft:HIRA', 'r': 4}, 'r')
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from adapterlab.adapters.base import Adapter
from adapterlab.adapters.peft_config import PREFIX, config_class
from adapterlab.errors import AdapterlabError, UnknownNameError

_SET_ELSEWHERE = frozenset(
    {"peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode"}
)
"""Fields of every config that describe the model or the file, and are no hyperparameters."""
_KNOBS: Mapping[str, str | None] = {
    "ADAMSS": "subspace_rank",
    "FOURIERFT": "n_frequency",
    "OFT": None,  # r and oft_block_size are two ways to state the same size
    "SUPERTUNING": None,
    "TINYLORA": "u",
    "UNILORA": "theta_d_length",
    "WAVEFT": "n_frequency",
}
"""Fields that set the number of trained parameters, where that is not `r`."""
_FEWER_WITH_SIZE = frozenset({"RANDLORA"})
"""Methods that train fewer parameters with a larger size."""
_OWN_PLACES = frozenset({"BEFT", "LN_TUNING", "TRAINABLE_TOKENS"})
"""Methods that adapt other places than linear layers, and know them for each type of model."""
_NEEDS_MORE: Mapping[str, frozenset[str]] = {
    "ADAMSS": frozenset({"use_asa"}),
    "LORA": frozenset(
        {
            "alora_invocation_tokens",
            "arrow_config",
            "corda_config",
            "eva_config",
            "kasa_config",
            "layer_replication",
            "lora_ga_config",
            "megatron_config",
            "monteclora_config",
            "velora_config",
        }
    ),
}
"""By method, settings that need code in the training loop or data, unless they have their default value."""
_MIXES_ROWS = frozenset({"LILY"})
"""Methods that route by a mean over all tokens of a batch."""
_INITS_FROM_DATA = ("eva", "corda", "lora_ga", "loftq")
"""Values of `init_lora_weights` that need data or a quantized model."""


@dataclass(frozen=True)
class PeftAdapter(Adapter):
    """Base class of PEFT's methods; each has a subclass whose fields are those of PEFT's config class.

    The adapter has no strength between 0 (the base model) and 1 (the trained adapter).
    """

    site = "PEFT model"
    mergeable = False
    libraries = ("peft",)
    peft_type: ClassVar[str]
    """PEFT's name of the method, such as `HIRA`."""
    claim = "Not stated: this method is PEFT's."
    paper = "https://huggingface.co/docs/peft"

    @property
    def starts_as_base(self) -> bool:
        return False  # not known

    @property
    def draws_in_training(self) -> bool:
        return True  # not known, and dropout has another name in each config

    @property
    def mixes_rows(self) -> bool:
        return self.peft_type in _MIXES_ROWS

    @property
    def finds_places(self) -> bool:
        """True if PEFT chooses what is adapted, and targets are not used."""
        return self.peft_type in _OWN_PLACES

    @property
    def given(self) -> dict[str, object]:
        """Hyperparameters that differ from PEFT's defaults."""
        values = {f.name: (getattr(self, f.name), _default(f)) for f in dataclasses.fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def settings(self) -> dict[str, object]:
        return {"name": self.name, **self.given}

    def config(self, **changes: object) -> Any:
        """Return PEFT's config object.

        Args:
            **changes: Fields of the config that depend on the model, such as `target_modules`.

        Raises:
            AdapterlabError: If PEFT refuses the values.
        """
        try:
            return config_class(self.peft_type)(**{**self.given, **changes})
        except (ValueError, TypeError, ImportError) as error:
            raise AdapterlabError(f"{self.name}: {_one_line(error)}") from error

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        sides = [side for shape in shapes for side in shape] or [1]
        if self.size_knob == "n_frequency":
            return range(1, min(rows * columns for rows, columns in shapes) + 1)
        if self.size_knob in ("theta_d_length", "u"):
            return range(1, max(sides) ** 2 + 1)
        if self.peft_type == "GRALORA":
            blocks: int = self.gralora_k  # type: ignore[attr-defined]
            return range(blocks, min(sides) + 1, blocks) or [blocks]
        sizes = range(1, min(sides) + 1)
        return sizes[::-1] if self.peft_type in _FEWER_WITH_SIZE else sizes

    def strength_problem(self, strength: float) -> str | None:
        return None if strength in (0, 1) else f"PEFT's methods have no strength {strength}: give 0 or 1"

    def __hash__(self) -> int:
        return hash(json.dumps(self.settings(), sort_keys=True, default=str))

    def __str__(self) -> str:
        changed = ", ".join(f"{key}={value}" for key, value in self.given.items())
        return f"{self.name}({changed})" if changed else self.name


def peft_method(name: str, where: str = "") -> type[PeftAdapter]:
    """Return the adapter class of a method of PEFT.

    Args:
        name: `peft:` and PEFT's name of the method.
        where: File or option in which the name was given, for the error message.

    Raises:
        AdapterlabError: If PEFT is not installed, or cannot inject the method or does not have it.
    """
    config_class(name.removeprefix(PREFIX), where)
    return _method(name)


@cache
def _method(name: str) -> type[PeftAdapter]:
    peft_type = name.removeprefix(PREFIX)
    config = config_class(peft_type)
    fields = [
        (f.name, Any, dataclasses.field(default=f.default, default_factory=f.default_factory))
        for f in dataclasses.fields(config)
        if f.init and f.name not in _SET_ELSEWHERE
    ]
    names = [field[0] for field in fields]
    knob = _KNOBS.get(peft_type, "r" if "r" in names else None)
    namespace = {
        "__hash__": PeftAdapter.__hash__,
        "__module__": __name__,
        "peft_type": peft_type,
        "size_knob": knob,
        "title": f"{peft_type} of PEFT",
    }
    made: type[PeftAdapter] = dataclasses.make_dataclass(
        f"Peft{config.__name__}", fields, bases=(PeftAdapter,), frozen=True, namespace=namespace
    )
    made.name = name  # set after the class is made, so that it is not registered as a method of this package
    return made


def make_peft_adapter(name: str, settings: Mapping[str, object]) -> PeftAdapter:
    """Return a method of PEFT with the given hyperparameters.

    Args:
        name: `peft:` and PEFT's name of the method.
        settings: Fields of PEFT's config class by name.

    Raises:
        UnknownNameError: If the config has no such field.
        AdapterlabError: If a value has the wrong type, or PEFT refuses the values or cannot inject the method.
    """
    method = peft_method(name)
    config = config_class(method.peft_type)
    known = [f.name for f in dataclasses.fields(method)]
    hints = typing.get_type_hints(config)
    for key, value in settings.items():
        if key not in known:
            raise UnknownNameError("setting", key, known, where=f"adapter {name!r}")
        if problem := _type_problem(hints[key], value):
            raise AdapterlabError(
                f"adapter {name!r}: {key} = {value!r} does not fit PEFT's {config.__name__}: {problem}"
            )
    made = method(**settings)
    if unsupported := sorted(made.given.keys() & _NEEDS_MORE.get(method.peft_type, frozenset())):
        raise AdapterlabError(f"{name}: {unsupported[0]} needs data, or code in the training loop: leave it out")
    if getattr(made, "init_lora_weights", None) in _INITS_FROM_DATA:
        raise AdapterlabError(
            f"{name}: init_lora_weights = {made.init_lora_weights!r} needs data or a quantized model: "  # type: ignore[attr-defined]
            "choose another start"
        )
    made.config()
    return made


def _type_problem(hint: Any, value: object) -> str | None:
    """Return the reason why a value does not have a type, or None if it has it or the type cannot be checked."""
    try:
        checker = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, TypeError, NameError):
        return None
    try:
        checker.validate_python(value, strict=True)
    except ValidationError as error:
        return error.errors()[0]["msg"]
    return None


def _default(field: dataclasses.Field[Any]) -> object:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
