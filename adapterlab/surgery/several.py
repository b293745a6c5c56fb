"""Several adapters on one model: choose those that are active, or combine them into one.

>>> from adapterlab.adapters import adapter
>>> from adapterlab.surgery.attach import attach
>>> model = nn.Sequential(nn.Linear(4, 4))
>>> for name in ("first", "second"):
...     handle = attach(model, adapter("lora", rank=1), name=name).requires_grad_(False)
...     _ = [nn.init.normal_(p) for p in handle.parameters()]
>>> mixed = combine(model, {"first": 0.5, "second": 0.5}, name="mixed")
>>> mixed.adapter, [name for name, handle in attached(model).items() if handle.active]
(LoRA(rank=2, alpha=2.0, ...), ['mixed'])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.rank.lora import LoRA
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.surgery.attach import initial_states, install
from adapterlab.surgery.handle import Handle, attached
from adapterlab.surgery.model.where import Where
from adapterlab.surgery.sites.find import places_for

TOLERANCE = 1e-6
"""Share of the largest singular value below which a direction of a combined change is rounding."""


def set_active(model: nn.Module, *names: str) -> None:
    """Enable some adapters of a model, and disable all others.

    Args:
        model: The model.
        *names: Names of the adapters; none for the base model. Several act in the order in which they were attached.

    Raises:
        UnknownNameError: No adapter has such a name.
        AdapterlabError: An adapter is merged.
    """
    handles = _named(model, names)
    for name, handle in attached(model).items():
        if any(site.merged for site in handle.sites.values()):
            raise AdapterlabError(f"the adapter {name!r} is merged: unmerge() before you choose among adapters")
    for name, handle in attached(model).items():
        for site in handle.sites.values():
            site.enabled = name in handles


def combine(
    model: nn.Module,
    weights: Mapping[str, float],
    name: str,
    how: Literal["sum", "average"] = "sum",
    rank: int | None = None,
) -> Handle:
    """Attach one adapter that combines others, and make it the active one; the others stay attached.

    Args:
        model: The model.
        weights: Weight of each adapter by name.
        name: Name of the new adapter.
        how: `"sum"` for the weighted sum of what each adapter adds to the base's weights, as a LoRA; `"average"` for the
            weighted mean of the trained tensors of adapters of one method, with the weights divided by their sum.
        rank: Rank of the sum, whose best approximation is taken; by default the smallest at each layer that holds it.

    Returns:
        The handle of the new adapter.

    Raises:
        UnknownNameError: No adapter has such a name.
        AdapterlabError: The adapters cannot be combined in this way.
    """
    handles = _named(model, list(weights))
    if not handles:
        raise AdapterlabError("combine: name at least one adapter")
    before = {each: handle.active for each, handle in attached(model).items()}
    set_active(model)
    try:
        result = _sum(model, handles, weights, name, rank) if how == "sum" else _average(model, handles, weights, name)
    except BaseException:
        set_active(model, *(each for each, active in before.items() if active))
        raise
    set_active(model, name)
    return result


def _named(model: nn.Module, names: Sequence[str]) -> dict[str, Handle]:
    known = attached(model)
    for name in names:
        if name not in known:
            raise UnknownNameError("adapter", name, known, where=type(model).__name__)
    return {name: known[name] for name in names}


def _sum(
    model: nn.Module, handles: Mapping[str, Handle], weights: Mapping[str, float], name: str, rank: int | None
) -> Handle:
    total: dict[str, Tensor] = {}
    for each, handle in handles.items():
        if not isinstance(handle.adapter, LinearAdapter):
            raise AdapterlabError(
                f"{handle.adapter.name} ({each!r}) does not change linear layers: it cannot be summed"
            )
        set_active(model, each)
        for path, delta in handle.deltas().items():
            if path not in handle.sites:
                raise AdapterlabError(f"{handle.adapter.name} ({each!r}) changes {path}, and a LoRA does not")
            total[path] = total.get(path, torch.zeros_like(delta)) + weights[each] * delta
    set_active(model)
    factors = {path: torch.linalg.svd(delta.double(), full_matrices=False) for path, delta in total.items()}
    exact = {path: max(1, int((s > TOLERANCE * s[0]).sum())) for path, (_, s, _) in factors.items()}
    method = LoRA(rank=rank or max(exact.values()), alpha=float(rank or max(exact.values())))
    others = {path: {"rank": own, "alpha": float(own)} for path, own in exact.items() if own != method.rank}
    where = Where(list(total), settings=others if rank is None else {})
    places = places_for(model, method, where)
    states = {}
    for path, state in initial_states(method, places).items():
        u, s, vt = factors[path]
        own = len(state["a"])
        root = s[:own].sqrt()
        a, b = root[:, None] * vt[:own], u[:, :own] * root
        states[path] = State({"a": a.to(state["a"]), "b": b.to(state["b"])})
    return install(model, method, where, name, places, states)


def _average(model: nn.Module, handles: Mapping[str, Handle], weights: Mapping[str, float], name: str) -> Handle:
    first = next(iter(handles.values()))
    total = sum(weights.values())
    for each, handle in handles.items():
        if handle.adapter != first.adapter or handle.sites.keys() != first.sites.keys() or handle.where != first.where:
            raise AdapterlabError(f"{each!r} differs from {first.name!r} in method, settings or places: use how='sum'")
        _refuse_other_frozen(first, handle)
    if not total:
        raise AdapterlabError("combine: the weights of an average sum to zero")
    places = places_for(model, first.adapter, first.where)
    states, averaged = {}, dict[Tensor, Tensor]()
    for path, site in first.sites.items():
        trainable = {}
        for key, tensor in site.state.trainable.items():
            if tensor not in averaged:
                parts = [weights[n] / total * h.sites[path].state.trainable[key].detach() for n, h in handles.items()]
                averaged[tensor] = torch.stack(parts).sum(0)
            trainable[key] = averaged[tensor]
        states[path] = State(trainable, site.state.frozen, site.state.derived)
    return install(model, first.adapter, first.where, name, places, states)


def _refuse_other_frozen(first: Handle, other: Handle) -> None:
    """Raise an error if two adapters differ in tensors that are not trained, such as random bases."""
    for path, site in first.sites.items():
        for key, tensor in site.state.frozen.items():
            if not torch.equal(tensor, other.sites[path].state.frozen[key]):
                raise AdapterlabError(
                    f"{first.name!r} and {other.name!r} have other frozen tensors ({path}/{key}), so the mean of their "
                    "trained ones means nothing: attach both with the same seed, or use how='sum'"
                )
