"""Attach an adapter that `Handle.save` wrote.

>>> import tempfile
>>> from adapterlab.adapters import adapter
>>> from adapterlab.surgery import attach
>>> model = nn.Sequential(nn.Linear(4, 4))
>>> with tempfile.TemporaryDirectory() as folder:
...     handle = attach(model, adapter("lora", rank=2))
...     handle.save(folder)
...     handle.detach()
...     load(model, folder).adapter
LoRA(rank=2, ...)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters.base import Adapter
from adapterlab.adapters.rank.lora_starts import SUBTRACTED
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.adapter_files import NEW_HEADS, TRAINED_TOO, SavedAdapter, read, sketch
from adapterlab.surgery.attach import initial_states, install, places_beside, refuse_nan
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.init.svd_cache import default_factors
from adapterlab.surgery.model.new_heads import mark_new_heads
from adapterlab.surgery.sites.base import Place
from adapterlab.surgery.sites.find import places_for
from adapterlab.surgery.sites.peft import PeftSite
from adapterlab.surgery.sites.routed import RoutedSite
from adapterlab.surgery.trainer.methods import handles_on


def load(model: nn.Module, folder: str | Path, name: str = "default") -> Handle:
    """Attach a saved adapter to a model in place.

    Args:
        model: A model like the one that the adapter was trained on.
        folder: A folder that `Handle.save` wrote.
        name: Name of the adapter on the model.

    Returns:
        The handle of the attached adapter.

    Raises:
        AdapterlabError: A file is missing, damaged or a pickle, or was made for another model. The model is unchanged.
    """
    saved = read(Path(folder))
    adapter = make_adapter(saved.settings["name"], **{k: v for k, v in saved.settings.items() if k != "name"})
    heads = _new_heads(model, saved)
    trained = _trained_too(model, saved)
    places = places_beside(places_for(model, adapter, saved.where), trained, adapter)
    refuse_nan(model)
    handle = install(model, adapter, saved.where, name, places, _states(saved, adapter, places), trained)
    with torch.no_grad():
        for path, tensor in heads.items():
            handle.new_heads[path].copy_(tensor)
        for path, parameter in handle.trained_too.items():
            parameter.copy_(saved.tensors[f"{TRAINED_TOO}/{path}"])
    for site in handle.sites.values():
        if isinstance(site, PeftSite):
            site.read_files(Path(folder))
    _warn_of_adapters_below(saved, handle)
    return handle


def _warn_of_adapters_below(saved: SavedAdapter, handle: Handle) -> None:
    """Warn that an adapter was trained on top of others, if fewer are attached to the model."""
    if len(saved.below) > len(handles_on(handle.model)[:-1]):
        folders = ", ".join(str(saved.folder / name) for name in saved.below)
        warnings.warn(
            f"{saved.folder} was trained on top of the adapter in {folders}: load that first, unless the model has it "
            "merged",
            stacklevel=3,
        )


def _states(saved: SavedAdapter, adapter: Adapter, places: Mapping[str, Place]) -> dict[str, State]:
    """Return the state of each place: its tensors from the file, and those derived from the base computed again."""
    expected = initial_states(adapter, places, meta=True)
    derived = _derived(saved, adapter, places, expected)
    loaded: dict[str, Tensor] = {}

    def tensor(path: str, name: str, like: Tensor) -> Tensor:
        key = saved.key(path, name)
        stored = saved.tensors.get(key)
        if stored is None or stored.shape != like.shape:
            found = "nothing" if stored is None else tuple(stored.shape)
            raise AdapterlabError(
                f"{saved.folder} was made for another model: at {path}/{name} it holds {found}, "
                f"this model needs {tuple(like.shape)}"
            )
        if key not in loaded:
            # A copy, since bytes in a file are not aligned, and sums of unaligned tensors round in another order.
            loaded[key] = stored.to(device=places[path].like.device, dtype=like.dtype, copy=True)
        return loaded[key]

    states = {}
    for path, state in expected.items():
        packed = adapter.pack(state)
        trainable = {name: tensor(path, name, like) for name, like in packed.trainable.items()}
        frozen = {name: tensor(path, name, like) for name, like in packed.frozen.items()}
        _check_derived(saved, path, derived[path])
        states[path] = adapter.unpack(State(trainable, frozen, derived[path]))
    return states


def _derived(
    saved: SavedAdapter, adapter: Adapter, places: Mapping[str, Place], expected: Mapping[str, State]
) -> Mapping[str, Mapping[str, Tensor]]:
    """Return the tensors that the method derives from the base's weights, by path."""
    if not any(state.derived for state in expected.values()):
        return {path: {} for path in expected}
    frozen = {
        path: {
            name: saved.tensors[saved.key(path, name)]
            for name in state.frozen
            if saved.key(path, name) in saved.tensors
        }
        for path, state in expected.items()
    }
    states = initial_states(adapter, places, factors=default_factors(), saved=frozen)
    return {path: state.derived for path, state in states.items()}


def _check_derived(saved: SavedAdapter, path: str, derived: Mapping[str, Tensor]) -> None:
    """Raise an error if the tensors derived from the base at one place do not match the saved sketches."""
    for name, tensor in derived.items():
        stored, own = saved.tensors.get(f"{path}/{name}.sketch"), sketch(tensor).cpu()
        if stored is None or stored.shape != own.shape or (stored - own).abs().max() > 0.01 * stored.abs().max():
            raise AdapterlabError(
                f"{saved.folder} was trained on another base: at {path} this model's weight gives another {name!r}; "
                "load it on the model that it was attached to"
            )


def _trained_too(model: nn.Module, saved: SavedAdapter) -> dict[str, nn.Parameter]:
    """Return the parameters of the model, by path, that were trained beside the saved adapter."""
    parameters = dict(model.named_parameters())
    for path in saved.trained_too:
        value = saved.tensors.get(f"{TRAINED_TOO}/{path}")
        if value is None or path not in parameters or parameters[path].shape != value.shape:
            raise AdapterlabError(
                f"{saved.folder} holds {path}, {'damaged' if value is None else tuple(value.shape)}, which this model "
                "does not have: load it on a model of the same class and number of labels"
            )
    return {path: parameters[path] for path in saved.trained_too}


def _new_heads(model: nn.Module, saved: SavedAdapter) -> dict[str, Tensor]:
    """Return the saved values of new heads by path, and mark these parameters on the model."""
    parameters = dict(model.named_parameters())
    values: dict[str, Tensor] = {}
    for path in saved.new_heads:
        value = saved.tensors.get(f"{NEW_HEADS}/{path}")
        if value is None or path not in parameters or parameters[path].shape != value.shape:
            raise AdapterlabError(
                f"{saved.folder} holds {path}, {'damaged' if value is None else tuple(value.shape)}, which this model "
                "does not have: load it with as many labels as it was trained on"
            )
        values[path] = value
    if values:
        mark_new_heads(model, values)
    return values


def load_experts(handle: Handle, folders: Sequence[str | Path]) -> None:
    """Replace the experts of a routed adapter by low-rank adapters that `Handle.save` wrote.

    Args:
        handle: An attached mixture of low-rank experts, such as X-LoRA.
        folders: One folder for each expert, each a `lora` with the mixture's `rank` and `alpha` on the same layers.

    Raises:
        AdapterlabError: A folder holds another method, another size or other layers.
    """
    sites = [path for path, site in handle.sites.items() if isinstance(site, RoutedSite)]
    experts = getattr(handle.adapter, "experts", 0)
    if not sites or not experts or len(folders) != experts:
        raise AdapterlabError(
            f"{handle.adapter} has {experts} experts, and {len(folders)} folders were given: give one for each"
        )
    parts: dict[str, list[Tensor]] = {f"{path}/{name}": [] for path in sites for name in ("a", "b")}
    wanted = {name: getattr(handle.adapter, name) for name in ("rank", "alpha")}
    for folder in folders:
        saved = read(Path(folder))
        settings = saved.settings
        plain = not settings.get("rslora") and settings.get("start") not in SUBTRACTED
        if settings["name"] != "lora" or not plain or not wanted.items() <= settings.items():
            raise AdapterlabError(
                f"{folder} holds {settings}; an expert must be a lora with {wanted}, a start on the base, and without rslora"
            )
        for key, found in parts.items():
            if key not in saved.tensors:
                raise AdapterlabError(f"{folder} does not adapt {key.rpartition('/')[0]}: train it on the same targets")
            found.append(saved.tensors[key])
    with torch.no_grad():
        for key, found in parts.items():
            path, _, name = key.rpartition("/")
            handle.sites[path].state[name].copy_(torch.stack(found))
