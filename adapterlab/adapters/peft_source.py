"""Content of a folder that PEFT wrote, as methods read it; every setting and every tensor must be read by something.

A method that PEFT has too overrides `from_peft` and `peft_state`; `adapterlab.surgery.io.peft_import` calls them. Nothing
here imports PEFT.

>>> settings = PeftSettings({"peft_type": "LORA", "r": 4, "use_dora": False, "lora_bias": True})
>>> settings.whole("r", 8), settings.flag("use_dora"), settings.unread()
(4, False, {'lora_bias': True})
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError


class CannotLoadError(AdapterlabError):
    """A PEFT adapter has something that this package does not have."""


# About the file, or about which layers are adapted, which the names of the tensors say.
_ABOUT_THE_FILE = {
    "peft_type",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "task_type",
    "inference_mode",
    "peft_version",
    "target_modules",
    "exclude_modules",
    "modules_to_save",
    "layers_to_transform",
    "layers_pattern",
    "fan_in_fan_out",
}


class PeftSettings:
    """Settings of an `adapter_config.json`, which record the names that were read.

    Args:
        values: The settings by PEFT's names.
    """

    def __init__(self, values: Mapping[str, object]) -> None:
        self._values, self._read = dict(values), set(_ABOUT_THE_FILE)

    def get(self, name: str, default: object = None) -> object:
        """Return a setting, or the default if it is missing or null.

        Args:
            name: PEFT's name.
            default: PEFT's default.
        """
        self._read.add(name)
        found = self._values.get(name)
        return default if found is None else found

    def whole(self, name: str, default: int = 0) -> int:
        """Return a setting that is an integer.

        Args:
            name: PEFT's name.
            default: PEFT's default.
        """
        return int(self.number(name, default))

    def number(self, name: str, default: int | float = 0.0) -> float:
        """Return a setting that is a number.

        Args:
            name: PEFT's name.
            default: PEFT's default.

        Raises:
            CannotLoadError: It is something else.
        """
        found = self.get(name, default)
        if not isinstance(found, int | float):
            raise CannotLoadError(f"{name}={found!r} is not a number")
        return float(found)

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a setting that is true or false.

        Args:
            name: PEFT's name.
            default: PEFT's default.
        """
        return bool(self.get(name, default))

    def at(self, path: str, patterns: str, default: int | float) -> float:
        """Return a number that may differ between layers, such as those of `alpha_pattern`.

        Args:
            path: Path of the layer.
            patterns: PEFT's name of the setting with numbers by pattern; the first pattern that the path ends with counts.
            default: Number of the other layers.
        """
        found = self.get(patterns, {})
        for pattern, value in (found if isinstance(found, Mapping) else {}).items():
            if re.match(rf"(.*\.)?({pattern})$", path):
                return float(value)
        return float(default)

    def only_at_start(self, *names: str) -> None:
        """Record settings that decide initial values alone, and nothing of a trained adapter.

        Args:
            *names: PEFT's names.
        """
        self._read.update(names)

    def only_in_training(self, *names: str) -> None:
        """Record settings that change nothing but training; warn if one of them is in use.

        Args:
            *names: PEFT's names, each of a probability.
        """
        for name in names:
            if used := self.number(name):
                warnings.warn(
                    f"{name}={used} is not loaded, since this method has no such dropout here: the adapter's outputs are "
                    "the same, and only further training differs",
                    stacklevel=2,
                )

    def unread(self) -> dict[str, object]:
        """Return the settings in use that nothing has read, by name; those that are false, empty or `"none"` are not."""
        return {name: value for name, value in self._values.items() if name not in self._read and _used(value)}


def _used(value: object) -> bool:
    return any(map(_used, value.values())) if isinstance(value, Mapping) else bool(value) and value != "none"


@dataclass(frozen=True)
class PeftSource:
    """A PEFT adapter before it is attached."""

    settings: PeftSettings
    """Its settings."""
    kind: str
    """PEFT's name of the method, such as `"LORA"`."""
    tensors: Mapping[str, Mapping[str, Tensor]]
    """Tensors of each module, by the module's path and PEFT's name for the tensor."""
    shared: Mapping[str, Tensor]
    """Tensors that belong to no module, by their full name."""

    _made: dict[str, Tensor] = field(default_factory=dict)

    def once(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """Return a tensor that several sites share, made from those of the file.

        Args:
            key: Name of the tensor.
            make: Function that makes it, called once.
        """
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def sizes(self, name: str, dimension: int = 0) -> list[int]:
        """Return the size of one tensor at every module that has it.

        Args:
            name: PEFT's name for the tensor.
            dimension: The dimension to measure.
        """
        return [held[name].shape[dimension] for held in self.tensors.values() if name in held]


@dataclass(frozen=True)
class PeftStored:
    """One site of a PEFT adapter that is being loaded."""

    path: str
    """Path of the layer or parameter in the model."""
    source: PeftSource
    """The whole adapter."""
    start: State
    """State of a new adapter at this site."""
    base: Tensor
    """Base weight, `(out, in)`, or base parameter; empty at a site that adapts neither."""
    index: int
    """Number of the site among those of the adapter."""
    count: int
    """Number of sites of the adapter."""
    read: set[str] = field(default_factory=set)
    """Full names of the tensors that were taken."""

    @property
    def settings(self) -> PeftSettings:
        """The adapter's settings."""
        return self.source.settings

    def take(self, name: str, module: str | None = None) -> Tensor:
        """Return a tensor of this site.

        Args:
            name: PEFT's name for the tensor.
            module: Path of the module that holds it, if that is not the site.

        Raises:
            CannotLoadError: The file has no such tensor.
        """
        path = self.path if module is None else module
        if name not in self.source.tensors.get(path, {}):
            raise CannotLoadError(f"it has no {name} at {path}")
        self.read.add(f"{path}.{name}")
        return self.source.tensors[path][name]

    def take_shared(self, name: str) -> Tensor:
        """Return a tensor that belongs to no module.

        Args:
            name: Its full name in the file.

        Raises:
            CannotLoadError: The file has no such tensor.
        """
        if name not in self.source.shared:
            raise CannotLoadError(f"it has no {name}")
        self.read.add(name)
        return self.source.shared[name]


def padded(tensor: Tensor, size: int, dimension: int) -> Tensor:
    """Return a tensor extended by zeros along one dimension.

    Args:
        tensor: The tensor.
        size: Size of that dimension afterwards.
        dimension: The dimension.
    """
    shape = list(tensor.shape)
    if shape[dimension] == size:
        return tensor
    whole = tensor.new_zeros(*shape[:dimension], size, *shape[dimension + 1 :])
    whole.narrow(dimension, 0, shape[dimension]).copy_(tensor)
    return whole
