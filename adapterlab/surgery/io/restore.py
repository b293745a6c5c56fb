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
from adapterlab.surgery.adapter_files import CARD, NEW_HEADS, TRAINED_TOO, SavedAdapter, read, sketch
from adapterlab.surgery.attach import base_of, initial_states, install, places_beside, refuse_nan
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.init.svd_cache import default_factors
from adapterlab.surgery.model.new_heads import mark_more_heads
from adapterlab.surgery.model.submodules import in_adapter
from adapterlab.surgery.model.trained_modules import may_be_new
from adapterlab.surgery.model.weights import without_codes
from adapterlab.surgery.sites.base import Place
from adapterlab.surgery.sites.find import places_for
from adapterlab.surgery.sites.peft import PeftSite
from adapterlab.surgery.sites.routed import RoutedSite
from adapterlab.surgery.trainer.methods import handles_on


def load(model: nn.Module, folder: str | Path, name: str = "default", *, any_base: bool = False) -> Handle:
    """Attach a saved adapter to a model in place.

    Everything is read and checked before the model is changed, and a failure leaves the model as it was.

    Args:
        model: The model that the adapter was trained on. It is recognized by the parameters' shapes and a sample of their
            values; the dtype may differ.
        folder: A folder that `Handle.save` wrote.
        name: Name of the adapter on the model.
        any_base: True to load the adapter on another model whose shapes fit.

    Returns:
        The handle of the attached adapter.

    Raises:
        AdapterlabError: A file is missing, damaged or a pickle, or was made for another model. The model is unchanged.
    """
    saved = read(Path(folder))
    heads = _new_heads(model, saved)
    unmark = mark_more_heads(model, heads)
    handle = None
    try:
        handle = _attached(model, saved, name, any_base)
        handle._undo.append(lambda handle: unmark(handle.model))
        with torch.no_grad():
            for path, tensor in heads.items():
                handle.new_heads[path].copy_(tensor)
        for site in handle.sites.values():
            if isinstance(site, PeftSite):
                site.read_files(saved.folder)
        _warn_of_adapters_below(saved, handle)
    except BaseException as error:
        if handle is not None:
            handle.detach()
        unmark(model)
        if isinstance(error, AdapterlabError | Warning) or not isinstance(error, Exception):
            raise
        first = " ".join(str(error).split())[:300] or "no reason given"
        raise AdapterlabError(f"{folder} cannot be loaded ({type(error).__name__}: {first})") from error
    return handle


def _attached(model: nn.Module, saved: SavedAdapter, name: str, any_base: bool) -> Handle:
    """Return the handle of the saved adapter, with its tensors and those of `trained_too`."""
    adapter = make_adapter(saved.card.adapter["name"], **saved.card.hyperparameters)
    values = _trained_too(model, saved)
    parameters = dict(model.named_parameters())
    trained = {path: parameters[path] for path in values}
    places = places_beside(places_for(model, adapter, saved.card.where), trained, adapter)
    refuse_nan(model)
    if not any_base:
        saved.check_base(base_of(model, places, trained))
    states = _states(saved, adapter, places, any_base)
    if left := saved.tensors.unread():
        raise AdapterlabError(
            f"{saved.folder} holds {left[0]}, for which this model or the adapter's settings have no place: load it on the "
            "model that it was trained on"
        )
    handle = install(model, adapter, saved.card.where, name, places, states, trained)
    with torch.no_grad():
        for path, parameter in handle.trained_too.items():
            parameter.copy_(values[path])
    return handle


def _warn_of_adapters_below(saved: SavedAdapter, handle: Handle) -> None:
    """Warn that an adapter was trained on top of others, if fewer are attached to the model."""
    if len(saved.card.below) > len(handles_on(handle.model)[:-1]):
        folders = ", ".join(str(saved.folder / name) for name in saved.card.below)
        warnings.warn(
            f"{saved.folder} was trained on top of the adapter in {folders}: load that first, unless the model has it "
            "merged",
            stacklevel=3,
        )


def _states(saved: SavedAdapter, adapter: Adapter, places: Mapping[str, Place], any_base: bool) -> dict[str, State]:
    """Return the state of each place: its tensors from the file, and those derived from the base computed again."""
    expected = initial_states(adapter, places, meta=True)
    loaded: dict[str, Tensor] = {}

    def tensor(path: str, name: str, like: Tensor) -> Tensor:
        key = saved.key(path, name)
        if key not in loaded:
            stored = saved.tensors.read(key, like)
            if not like.is_floating_point():
                _check_indices(saved, key, stored, places[path].adapter.index_bound(name, places[path].shape))
            # A copy, since bytes in a file are not aligned, and sums of unaligned tensors round in another order.
            loaded[key] = stored.to(device=places[path].like.device, dtype=like.dtype, copy=True)
        if loaded[key].shape != like.shape or loaded[key].dtype != like.dtype:
            raise AdapterlabError(f"{saved.folder} is damaged: {path}/{name} is said to be {key}, which is not like it")
        return loaded[key]

    groups = {}
    for path, state in expected.items():
        packed = adapter.pack(state)
        trainable = {name: tensor(path, name, like) for name, like in packed.trainable.items()}
        groups[path] = trainable, {name: tensor(path, name, like) for name, like in packed.frozen.items()}
    derived = _derived(adapter, places, expected, {path: frozen for path, (_, frozen) in groups.items()})
    states = {}
    for path, (trainable, frozen) in groups.items():
        _check_derived(saved, path, derived[path], any_base)
        states[path] = adapter.unpack(State(trainable, frozen, derived[path]))
    return states


def _check_indices(saved: SavedAdapter, key: str, indices: Tensor, bound: int | None) -> None:
    """Raise an error unless indices are different from each other and within bounds."""
    if not indices.numel():
        return
    low, high = int(indices.min()), int(indices.max())
    if low < 0 or (bound is not None and high >= bound):
        raise AdapterlabError(
            f"{saved.folder} is damaged: {key} holds indices from {low} to {high}, and 0 to {(bound or high + 1) - 1} exist"
        )
    if (indices.long().sort(-1).values.diff(dim=-1) == 0).any():
        raise AdapterlabError(f"{saved.folder} is damaged: {key} holds an index twice")


def _derived(
    adapter: Adapter,
    places: Mapping[str, Place],
    expected: Mapping[str, State],
    frozen: Mapping[str, Mapping[str, Tensor]],
) -> Mapping[str, Mapping[str, Tensor]]:
    """Return the tensors that the method derives from the base's weights, by path."""
    if not any(state.derived for state in expected.values()):
        return {path: {} for path in expected}
    states = initial_states(adapter, places, factors=default_factors(), saved=frozen)
    return {path: state.derived for path, state in states.items()}


def _check_derived(saved: SavedAdapter, path: str, derived: Mapping[str, Tensor], any_base: bool) -> None:
    """Raise an error if the tensors derived from the base at one place do not match the saved sketches."""
    for name, tensor in derived.items():
        own = sketch(tensor).cpu()
        stored = saved.tensors.read(f"{path}/{name}.sketch", own)
        if not any_base and (stored - own).abs().max() > 0.01 * stored.abs().max():
            raise AdapterlabError(
                f"{saved.folder} was trained on another base: at {path} this model's weight gives another {name!r}; "
                "load it on the model that it was attached to"
            )


def _trained_too(model: nn.Module, saved: SavedAdapter) -> dict[str, Tensor]:
    """Return the saved values of parameters that were trained beside the adapter, by path."""
    return _whole(
        model, saved, TRAINED_TOO, saved.card.trained_too, "load it on a model of the same class and number of labels"
    )


def _new_heads(model: nn.Module, saved: SavedAdapter) -> dict[str, Tensor]:
    """Return the saved values of new heads, by path."""
    heads = saved.card.fresh
    values = _whole(model, saved, NEW_HEADS, heads, "load it with as many labels as it was trained on")
    if other := [path for path in heads if not may_be_new(model, path)]:
        raise AdapterlabError(
            f"{saved.folder / CARD} names {other[0]} as a new head, and that is a part of this base: a head alone may be new"
        )
    return values


def _whole(model: nn.Module, saved: SavedAdapter, group: str, paths: Sequence[str], remedy: str) -> dict[str, Tensor]:
    """Return the saved values of whole parameters of the model, by path."""
    parameters = dict(model.named_parameters())
    values = {}
    for path in paths:
        found = saved.tensors.shape(f"{group}/{path}")
        if found is None or path not in parameters or tuple(parameters[path].shape) != found or in_adapter(path):
            raise AdapterlabError(
                f"{saved.folder} holds {path}, {'damaged' if found is None else found}, which this model does not have: "
                f"{remedy}"
            )
        if without_codes(parameters[path]) == []:
            raise AdapterlabError(f"{saved.folder} holds {path}, which is quantized in this model: {remedy}")
        values[path] = saved.tensors.read(f"{group}/{path}", parameters[path])
    return values


def load_experts(handle: Handle, folders: Sequence[str | Path], *, any_base: bool = False) -> None:
    """Replace the experts of a routed adapter by low-rank adapters that `Handle.save` wrote.

    Args:
        handle: An attached mixture of low-rank experts, such as X-LoRA.
        folders: One folder for each expert, each a `lora` with the mixture's `rank` and `alpha` on the same layers.
        any_base: True to load adapters that were trained on another base.

    Raises:
        AdapterlabError: A folder holds another method, another size or other layers, or was trained on another base.
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
        settings = saved.card.adapter
        plain = not settings.get("rslora") and settings.get("start") not in SUBTRACTED
        if settings["name"] != "lora" or not plain or not wanted.items() <= settings.items():
            raise AdapterlabError(
                f"{folder} holds {settings}; an expert must be a lora with {wanted}, a start on the base, and without rslora"
            )
        if not any_base:
            saved.check_base(handle.base)
        for key, found in parts.items():
            path, _, name = key.rpartition("/")
            if saved.tensors.shape(key) is None:
                raise AdapterlabError(f"{folder} does not adapt {path}: train it on the same targets")
            found.append(saved.tensors.read(key, handle.sites[path].state[name][0]))
    with torch.no_grad():
        for key, found in parts.items():
            path, _, name = key.rpartition("/")
            handle.sites[path].state[name].copy_(torch.stack(found))
