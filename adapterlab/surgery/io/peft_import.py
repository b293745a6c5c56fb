"""Attach an adapter that PEFT wrote. PEFT itself is not needed to read it.

Every setting in the file that is in use, and every tensor, is either read by the method or named in an error.

>>> from tempfile import TemporaryDirectory
>>> from adapterlab import adapter, attach
>>> from adapterlab.surgery.export.peft_export import save_peft
>>> model = nn.Sequential(nn.Linear(4, 4))
>>> with TemporaryDirectory() as folder:
...     handle = attach(model, adapter("lora", rank=2))
...     kind = save_peft(handle, folder, base="my-model")
...     handle.detach()
...     load_peft(model, folder).adapter
LoRA(rank=2, ...)
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from itertools import accumulate
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters import all_adapters
from adapterlab.adapters.adapter_types import ParameterAdapter
from adapterlab.adapters.base import Adapter
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.peft_source import CannotLoadError, PeftSettings, PeftSource, PeftStored
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.attach import initial_states, install, refuse_nan
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.init.svd_cache import default_factors
from adapterlab.surgery.model.new_heads import mark_more_heads
from adapterlab.surgery.model.trained_modules import may_be_new
from adapterlab.surgery.model.weights import QuantizedWeight, quantized, weight_of
from adapterlab.surgery.model.where import Where
from adapterlab.surgery.sites.base import Place
from adapterlab.surgery.sites.find import places_for
from adapterlab.surgery.sites.linear import LayerPlace
from adapterlab.surgery.sites.parameter import ParameterPlace

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
TRAINED_BESIDE = {"bias", "trainable_token_indices", "target_parameters"}
"""Settings of PEFT that add tensors beside those of the method."""
Moved: TypeAlias = dict[tuple[int, torch.device], tuple[Tensor, Tensor]]
"""Tensors of the file, each with its copy for the model, by the id of the former and the device of the latter."""


def load_peft(model: nn.Module, folder: str | Path, name: str = "default") -> Handle:
    """Attach an adapter that PEFT saved to a model in place.

    Args:
        model: A model like the one that the adapter was trained on.
        folder: A folder with PEFT's `adapter_config.json` and `adapter_model.safetensors`.
        name: Name of the adapter on the model.

    Returns:
        The handle of the attached adapter. Modules that PEFT saved whole (`modules_to_save`) are its new heads if they are
        heads of the model, and otherwise its `trained_too`.

    Raises:
        AdapterlabError: A file is missing, damaged or a pickle, was made for another model, or holds a method or a setting
            that this package does not have. The model is unchanged.
    """
    folder = Path(folder)
    config, tensors = _read(folder)
    try:
        heads = _heads(model, config, tensors)
        adapter, source = _method(config, *_by_module(model, tensors, heads))
        chosen = isinstance(adapter, LinearAdapter | ParameterAdapter)
        where = Where(list(source.tensors)) if chosen else Where()
        places = _places(model, adapter, where)
        refuse_nan(model)
        states = _states(adapter, source, places)
    except AdapterlabError as error:
        raise CannotLoadError(f"{folder} cannot be loaded: {error}") from error
    except Exception as error:  # a damaged file can break any step
        first = " ".join(str(error).split())[:300] or "no reason given"
        raise CannotLoadError(f"{folder} cannot be loaded ({type(error).__name__}: {first})") from error
    trained = {path: model.get_parameter(path) for path in heads if not may_be_new(model, path)}
    unmark = mark_more_heads(model, heads.keys() - trained.keys())
    try:
        handle = install(model, adapter, where, name, places, states, trained)
    except BaseException:
        unmark(model)
        raise
    handle._undo.append(lambda handle: unmark(handle.model))
    with torch.no_grad():
        for path, tensor in heads.items():
            (handle.trained_too if path in trained else handle.new_heads)[path].copy_(tensor)
    return handle


def _read(folder: Path) -> tuple[Mapping[str, object], Mapping[str, Tensor]]:
    """Return the settings and the tensors of a PEFT folder."""
    if not (folder / TENSORS).exists() and (folder / "adapter_model.bin").exists():
        raise AdapterlabError(
            f"{folder / 'adapter_model.bin'} is a pickle, which can run code when read; only {TENSORS} is loaded: "
            "load it with PEFT, and save it again with save_pretrained"
        )
    for file in (CONFIG, TENSORS):
        if not (folder / file).exists():
            raise AdapterlabError(
                f"{folder / file} does not exist: is {folder} a folder that PEFT saved an adapter to?"
            )
    try:
        config = json.loads((folder / CONFIG).read_text())
        config["peft_type"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdapterlabError(f"{folder / CONFIG} is damaged ({error!r}); the file was left as it is") from error
    try:
        tensors = load_file(folder / TENSORS)
    except (SafetensorError, OSError) as error:
        raise AdapterlabError(f"{folder / TENSORS} is damaged ({error}); the file was left as it is") from error
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise AdapterlabError(f"{folder / TENSORS}: {key} holds NaN or infinity")
    return config, tensors


def _heads(model: nn.Module, config: Mapping[str, object], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of modules that PEFT saved whole, by the path of the model's parameter."""
    whole = config.get("modules_to_save") or []
    assert isinstance(whole, list)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    heads = {}
    for key, tensor in tensors.items():
        path = key.removeprefix(PREFIX)
        own = parameters.get(path)
        above = list(accumulate(path.split(".")[:-1], "{}.{}".format))
        # PEFT looks at the end of a module's path, whatever precedes it.
        if own is None or not any(module.endswith(tuple(whole)) for module in above):
            continue
        if own.shape != tensor.shape:
            raise CannotLoadError(
                f"it holds {path} {tuple(tensor.shape)}, and the model has {tuple(own.shape)} there: load the model as it "
                "was trained, such as with the same num_labels"
            )
        if sum(other is own for other in parameters.values()) > 1:
            raise CannotLoadError(
                f"modules_to_save: {path} is tied to another parameter in this model, and PEFT unties it"
            )
        heads[path] = tensor
    return heads


def _by_module(
    model: nn.Module, tensors: Mapping[str, Tensor], heads: Collection[str]
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
    """Return the tensors by the module that they belong to and the rest of their name, and those that belong to none."""
    modules = {path for path, _ in model.named_modules() if path}
    held: dict[str, dict[str, Tensor]] = {}
    shared = {}
    for key, tensor in tensors.items():
        path = key.removeprefix(PREFIX)
        if path in heads:
            continue
        parts = path.split(".")
        found = next((end for end in range(len(parts), 0, -1) if ".".join(parts[:end]) in modules), 0)
        if key.startswith(PREFIX) and found:
            held.setdefault(".".join(parts[:found]), {})[".".join(parts[found:])] = tensor
        else:
            shared[key] = tensor
    return {path: held[path] for path, _ in model.named_modules() if path in held}, shared


def _method(
    config: Mapping[str, object], tensors: Mapping[str, Mapping[str, Tensor]], shared: Mapping[str, Tensor]
) -> tuple[Adapter, PeftSource]:
    """Return the method of a PEFT adapter, and the adapter with the settings that the method has read."""
    kind = str(config["peft_type"])
    own = [cls for cls in all_adapters().values() if "peft_kinds" in vars(cls) or "from_peft" in vars(cls)]
    kinds = sorted({kind for cls in own for kind in cls.peft_kinds})
    if kind not in kinds:
        raise CannotLoadError(f"this package does not have PEFT's method {kind}; it reads {', '.join(kinds)}")
    for cls in own:
        source = PeftSource(PeftSettings(config), kind, tensors, shared)
        if kind in cls.peft_kinds and isinstance(method := cls.from_peft(source), Adapter):
            if beside := {name: value for name, value in source.settings.unread().items() if name in TRAINED_BESIDE}:
                raise CannotLoadError(_refusal(kind, beside))
            return method, source
    raise CannotLoadError(_refusal(kind, PeftSettings(config).unread()))


def _refusal(kind: str, unread: Mapping[str, object]) -> str:
    named = ", ".join(f"{name}={value!r}" for name, value in sorted(unread.items()))
    return (
        f"this package does not have {named} of PEFT's {kind}: merge the adapter with PEFT, and load the merged model"
    )


def _places(model: nn.Module, adapter: Adapter, where: Where) -> Mapping[str, Place]:
    """Return the places that the adapter's tensors belong to."""
    targets = where.targets
    if isinstance(adapter, LinearAdapter):
        for path in targets:
            if isinstance(model.get_submodule(path), Conv1D) and not adapter.peft_transposable:
                raise CannotLoadError(f"{path} is a Conv1D, on which PEFT's method is another one than {adapter.name}")
        if not targets:
            raise CannotLoadError("none of its tensors belongs to a layer of this model: load it on the right model")
    places = places_for(model, adapter, where)
    if isinstance(adapter, LinearAdapter) and set(places) != set(targets):
        raise CannotLoadError(f"its layers cannot be adapted here: {', '.join(sorted(set(places) ^ set(targets)))}")
    return places


def _states(adapter: Adapter, source: PeftSource, places: Mapping[str, Place]) -> dict[str, State]:
    """Return the state of each place: a new adapter's, with the tensors from the file."""
    starts = initial_states(adapter, places, factors=default_factors())
    moved: Moved = {}
    states, read = {}, set[str]()
    for index, (path, start) in enumerate(starts.items()):
        given = adapter.peft_state(PeftStored(path, source, start, _base(places[path]), index, len(starts), read))
        groups = [
            {name: _like(path, name, given.get(name), own, moved) for name, own in group.items()}
            for group in (start.trainable, start.frozen, start.derived)
        ]
        if untouched := set(start.trainable) - set(given):
            raise CannotLoadError(f"at {path} it does not set {', '.join(sorted(untouched))} of {adapter.name}")
        states[path] = State(*groups)
    if unread := source.settings.unread():
        raise CannotLoadError(_refusal(source.kind, unread))
    names = {f"{path}.{name}" for path, held in source.tensors.items() for name in held} | set(source.shared)
    if left := sorted(names - read):
        more = f" and {len(left) - 3} more" if len(left) > 3 else ""
        raise CannotLoadError(
            f"nothing reads {', '.join(left[:3])}{more}: these belong to another method, or to a layer that this model lacks"
        )
    return states


def _like(path: str, name: str, given: Tensor | None, own: Tensor, moved: Moved) -> Tensor:
    """Return a tensor of the file in the dtype and on the device of a new adapter's; one object for one object."""
    if given is None:
        return own
    if given.shape != own.shape:
        raise CannotLoadError(
            f"it was made for another model: at {path} it has {name} {tuple(given.shape)}, and this model needs "
            f"{tuple(own.shape)}"
        )
    key = id(given), own.device
    if key not in moved:
        # The given tensor is kept too, so that its id is not that of another one later.
        moved[key] = given, given.detach().to(device=own.device, dtype=own.dtype, copy=True).contiguous()
    return moved[key][1]


def _base(place: Place) -> Tensor:
    if isinstance(place, LayerPlace):
        layer = place.layer
        return QuantizedWeight.of(layer, f"{place.path}: ") if quantized(layer) else weight_of(layer).detach()
    return place.like.detach() if isinstance(place, ParameterPlace) else torch.empty(0)
