"""Two linear layers that meet inside every head, adapted as one map: keys with queries, values with the output.

The site holds the state; a `PairHalf` on each of the layers answers from it, stacked like any other site on a linear layer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear as affine
from torch.nn.functional import pad
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.adapter_types import Pair, PairAdapter
from adapterlab.adapters.base import Context, Linear, Role, State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.decoder import Decoder, Projection
from adapterlab.surgery.model.linear_layers import linears, role_of
from adapterlab.surgery.model.weights import quantized
from adapterlab.surgery.sites.base import Place, Site
from adapterlab.surgery.sites.linear import LinearStack, in_state_dtype, push, stack_of


class PairPlace(Place):
    """Two projections of one attention, or one alone where nothing linear leads on from it."""

    def __init__(self, path: str, first: Projection, second: Projection | None, role: Role, heads: int) -> None:
        self.path, self.projections, self.role, self.heads = path, (first, second), role, heads
        for projection in filter(None, self.projections):
            if stack_of(projection.module):
                raise AdapterlabError(f"{projection.path} is adapted already: detach that first")
            if quantized(projection.module):
                kind = type(projection.module).__name__
                raise AdapterlabError(f"{projection.path}: {kind} holds quantized weights, which cannot be decomposed")

    @property
    def like(self) -> Tensor:
        return cast(Tensor, self.projections[0].module.weight)

    @property
    def shape(self) -> tuple[int, int]:
        return self.projections[0].shape

    @property
    def names(self) -> Collection[str]:
        return [key.partition(":")[0] for key in stack_of(self.projections[0].module) or ()]

    def init(self, adapter: PairAdapter, context: Context) -> State:
        first, second = self.projections
        own = _with_bias(first).unflatten(0, (self.heads, -1))
        pair = Pair(own, None if second is None else self.stacked(second))
        parts = [p if p is None else p.detach().to(context.device, context.dtype) for p in pair]
        return adapter.init(Pair(cast(Tensor, parts[0]), parts[1]), context)

    def install(self, adapter: PairAdapter, state: State, name: str) -> PairSite:
        return PairSite(adapter, state, self, name)

    def stacked(self, second: Projection) -> Float[Tensor, "heads out width"]:
        """The second map with the query heads of one key-value head above each other."""
        width = self.projections[0].shape[0] // self.heads
        if self.role is Role.VALUE:
            return second.weight.unflatten(1, (self.heads, -1, width)).permute(1, 2, 0, 3).flatten(1, 2)
        return _with_bias(second).unflatten(0, (self.heads, -1, width)).transpose(2, 3).flatten(1, 2)

    def unstacked(self, second: Float[Tensor, "heads out width"]) -> tuple[Tensor, Tensor | None]:
        """The weight of the second layer, and its bias where the pair holds that too."""
        projection = cast(Projection, self.projections[1])
        if self.role is Role.VALUE:
            split = second.unflatten(1, (-1, projection.weight.shape[0]))
            return split.permute(2, 0, 1, 3).flatten(1), projection.bias
        columns = projection.weight.shape[1] + (projection.bias is not None)
        return _without_bias(second.unflatten(1, (-1, columns)).transpose(2, 3).flatten(0, 2), projection)


def _with_bias(projection: Projection) -> Float[Tensor, "out in"]:
    bias = projection.bias
    return projection.weight if bias is None else torch.cat([projection.weight, bias[:, None]], dim=1)


def _without_bias(weight: Float[Tensor, "out in"], projection: Projection) -> tuple[Tensor, Tensor | None]:
    return (weight, None) if projection.bias is None else (weight[:, :-1], weight[:, -1])


class PairSite(Site):
    """A `PairAdapter` on two projections."""

    def __init__(self, adapter: PairAdapter, state: State, place: PairPlace, name: str) -> None:
        super().__init__(state)
        self.adapter, self.name = adapter, name
        self._place = (place,)
        self._limbs: tuple[PairHalf, ...] = ()
        self._before: list[tuple[nn.Module, nn.Parameter, nn.Parameter | None]] = []
        limbs = []
        for second, projection in enumerate(place.projections):
            if projection is not None:
                limb = PairHalf(self, projection, bool(second))
                push(projection.module, f"{name}:{place.role}:{second}", limb)
                limbs.append(limb)
        limbs[0].add_module("pair", self)  # the model holds the state once
        self._limbs = tuple(limbs)

    def part(self, second: bool) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of one of the two, in the state's dtype."""
        if second:
            return self._place[0].unstacked(cast(Tensor, self.adapter.second(self.state)))
        first = self.adapter.first(self.state, self.strength).flatten(0, 1)
        return _without_bias(first, self._place[0].projections[0])

    def both(self) -> tuple[Tensor, Tensor]:
        """The first map's weight, and what it would become if it alone took the whole change of the pair."""
        (before, _), (after, _) = self._first()
        return before, after

    def changes(self) -> dict[str, Tensor]:
        before, after = self._first()
        named = zip(("", ".bias"), before, after, strict=True)
        return {name: new - old for name, old, new in named if new is not None and old is not None}

    def _first(self) -> tuple[tuple[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]:
        place = self._place[0]
        first, second = place.projections
        base = _with_bias(first).to(self.dtype)
        adapted = base
        if self.active:
            adapted = self.adapter.first(self.state, self.strength)
            if second is not None:
                # Both second maps have the same columns' span, so the first can take what stands between the two.
                own = place.stacked(second).double()
                basis = torch.linalg.pinv(own) @ cast(Tensor, self.adapter.second(self.state)).double()
                adapted = (basis @ adapted.double()).to(self.dtype)
            adapted = adapted.flatten(0, 1)
        return _without_bias(base, first), _without_bias(adapted, first)

    def neighbours(self, side: Literal["below", "above"]) -> Sequence[nn.Module]:
        found = [other for limb in self._limbs for other in limb._stack[0].neighbours(limb, side)]
        return [other for other in found if not (isinstance(other, PairHalf) and other.site.name == self.name)]

    def merge(self) -> None:
        if self.merged:
            return
        with torch.no_grad():
            parts = [self.part(limb.second) for limb in self._limbs]
        for limb, (weight, bias) in zip(self._limbs, parts, strict=True):
            module, rows = limb.projection.module, limb.projection.cut
            base = cast(nn.Parameter, module.weight), cast("nn.Parameter | None", module.bias)
            self._before.append((module, *base))
            merged = (base[0].T if isinstance(module, Conv1D) else base[0]).detach().clone()
            merged[rows] = weight.to(merged.dtype)
            merged = merged.T.contiguous() if isinstance(module, Conv1D) else merged
            module.weight = nn.Parameter(merged, requires_grad=False)
            if bias is not None and base[1] is not None:
                shifted = base[1].detach().clone()
                shifted[rows] = bias.detach().to(shifted.dtype)
                module.bias = nn.Parameter(shifted, requires_grad=False)
        self.merged = True

    def unmerge(self) -> None:
        for module, weight, bias in reversed(self._before):
            module.weight, module.bias = cast(Any, weight), cast(Any, bias)
        self._before, self.merged = [], False

    def remove(self) -> None:
        for limb in self._limbs:
            limb._stack[0].remove(limb)


class PairHalf(nn.Module):
    """One of the two layers of a `PairSite`; itself a `Linear`, so another adapter can stand on it."""

    def __init__(self, site: PairSite, projection: Projection, second: bool) -> None:
        super().__init__()
        self._site, self.projection, self.second = (site,), projection, second
        self._below: tuple[Linear, ...] = ()
        self._stack: tuple[LinearStack, ...] = ()

    @property
    def site(self) -> PairSite:
        """What holds the state."""
        return self._site[0]

    @property
    def merged(self) -> bool:
        """Whether the adapted weights stand in the base's place."""
        return self.site.merged

    @property
    def below(self) -> Linear:
        """The layer, or the adapter beneath."""
        return self._below[0]

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """The adapted weight of the layer in the base's dtype."""
        base = self.below.weight
        if not self.site.active:
            return base
        return self._put(base, self.site.part(self.second)[0])

    @property
    def bias(self) -> Tensor | None:
        """The adapted bias."""
        base = self.below.bias
        if not self.site.active or base is None:
            return base
        return self._put(base, cast(Tensor, self.site.part(self.second)[1]))

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        """The adapted layer's answer."""
        site = self.site
        if not site.active:
            return self.below(x)
        if self.projection.fused or self.second:
            return in_state_dtype(x, site.dtype, lambda: affine(x, self.weight, self.bias))
        padded = x if self.projection.bias is None else pad(x, (0, 1), value=1.0)
        return in_state_dtype(x, site.dtype, lambda: site.adapter.forward(site.state, padded, site.strength))

    def _put(self, base: Tensor, rows: Tensor) -> Tensor:
        """`base` with the projection's rows replaced."""
        rows = rows.to(base.dtype)
        cut = self.projection.rows
        if cut is None:
            return rows
        if isinstance(cut, Tensor):
            return base.index_copy(0, cut.to(base.device), rows)
        return torch.cat([base[: cut.start], rows, base[cut.stop :]])


def pair_places(decoder: Decoder, adapter: PairAdapter) -> Iterator[tuple[str, PairPlace]]:
    """Keys with queries (keys, and queries if asked, alone under a rotation), values with the output, hidden units."""
    for attention in decoder.attentions:
        heads, path = attention.kv_heads, attention.path
        query = attention.query if decoder.mixes_linearly else None
        yield (
            f"{path}.{'key' if query is None else 'query_key'}",
            PairPlace(attention.keys.path, attention.keys, query, Role.KEY, heads),
        )
        if query is None and adapter.lone_queries:
            yield (
                f"{path}.query",
                PairPlace(attention.query.path, attention.query, None, Role.QUERY, attention.heads),
            )
        yield (
            f"{path}.value_output",
            PairPlace(attention.values.path, attention.values, attention.output, Role.VALUE, heads),
        )
    if block := adapter.unit_block:
        for path, module in linears(decoder.model).items():
            if role_of(path) is Role.UP:
                place = Projection(path, module)
                yield path, PairPlace(path, place, None, Role.UP, max(1, place.shape[0] // block))
