"""Pairs of linear layers that meet inside every head, adapted as one map: keys with queries, values with the output.

The `PairSite` holds the state. A `PairHalf` on each of the two layers computes with it, stacked like any other entry.

>>> from adapterlab.adapters import adapter
>>> from adapterlab.surgery.sites.find import places_for
>>> from transformers import GPT2Config, GPT2LMHeadModel
>>> model = GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=32, n_positions=16))
>>> list(places_for(model, adapter("clover", mlp_block=0), "all-linear"))
['transformer.h.0.attn.query_key', 'transformer.h.0.attn.value_output']
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear as affine
from torch.nn.functional import pad
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.adapter_types import Pair, PairAdapter
from adapterlab.adapters.context import Context, Role
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.attention import Projection
from adapterlab.surgery.model.decoder import Decoder
from adapterlab.surgery.model.linear_layers import LinearLayer, linears
from adapterlab.surgery.model.roles import role_of
from adapterlab.surgery.model.weights import quantized
from adapterlab.surgery.sites.base import Place, Side, Site, swap_parameter
from adapterlab.surgery.sites.stack import StackEntry, in_state_dtype, push, stack_of


class PairPlace(Place):
    """Two projections of one attention, or a single projection that no other follows linearly.

    Args:
        adapter: The method.
        first: The projection into the heads.
        second: The projection that follows it: to the queries if `first` makes the keys, to the output if it makes the
            values. None if something that is not linear is in between.
        role: Role of `first`.
        heads: Number of key-value heads, or of blocks of hidden units.
    """

    readers: Mapping[str, Sequence[nn.Module]] = MappingProxyType({})
    """Modules that read a layer's weight without calling it, by the layer's path."""

    adapter: PairAdapter

    def __init__(
        self, adapter: PairAdapter, first: Projection, second: Projection | None, role: Role, heads: int
    ) -> None:
        self.adapter, self.first, self.second, self.role, self.heads = adapter, first, second, role, heads

    def refuse_unsuitable(self) -> None:
        """Raise an error if a layer of the pair cannot be adapted.

        Raises:
            AdapterlabError: A layer is adapted already, or quantized.
        """
        for projection in self.projections:
            if stack_of(projection.module):
                raise AdapterlabError(f"{projection.path} is adapted already: detach that first")
            if quantized(projection.module):
                kind = type(projection.module).__name__
                raise AdapterlabError(f"{projection.path}: {kind} holds quantized weights, which cannot be decomposed")

    @property
    def projections(self) -> Sequence[Projection]:
        """The one or two projections."""
        return [self.first] if self.second is None else [self.first, self.second]

    @property
    def like(self) -> Tensor:
        return self.first.module.weight

    @property
    def shape(self) -> tuple[int, int]:
        return self.first.shape

    @property
    def names(self) -> Collection[str]:
        return [key.partition(":")[0] for key in stack_of(self.first.module) or ()]

    def init(self, context: Context) -> State:
        first = torch.unflatten(_with_bias(self.first), 0, (self.heads, -1))
        second = None if self.second is None else self.stacked(self.second)

        def given(tensor: Tensor) -> Tensor:
            return tensor.detach().to(context.device, context.dtype)

        return self.adapter.init(Pair(given(first), None if second is None else given(second)), context)

    def install(self, state: State, name: str) -> PairSite:
        return PairSite(self, state, name)

    def stacked(self, second: Projection) -> Float[Tensor, "heads out width"]:
        """Return the second map, with the query heads of one key-value head stacked.

        Args:
            second: The second projection.
        """
        width = self.first.shape[0] // self.heads
        if self.role is Role.VALUE:
            return torch.unflatten(second.weight, 1, (self.heads, -1, width)).permute(1, 2, 0, 3).flatten(1, 2)
        return torch.unflatten(_with_bias(second), 0, (self.heads, -1, width)).transpose(2, 3).flatten(1, 2)

    def unstacked(
        self, stacked: Float[Tensor, "heads out width"], second: Projection
    ) -> tuple[Float[Tensor, "rows columns"], Tensor | None]:
        """Return weight and bias of the second layer from the second map; undoes `stacked`.

        Args:
            stacked: The second map.
            second: The second projection.

        Returns:
            Weight `(out, in)` and bias `(out,)` of the layer; its own bias if the map does not contain one.
        """
        if self.role is Role.VALUE:
            split = torch.unflatten(stacked, 1, (-1, second.weight.shape[0]))
            return split.permute(2, 0, 1, 3).flatten(1), second.bias
        columns = second.weight.shape[1] + (second.bias is not None)
        return _without_bias(torch.unflatten(stacked, 1, (-1, columns)).transpose(2, 3).flatten(0, 2), second)


def _with_bias(projection: Projection) -> Float[Tensor, "out in"]:
    bias = projection.bias
    return projection.weight if bias is None else torch.cat([projection.weight, bias[:, None]], dim=1)


def _without_bias(weight: Float[Tensor, "out in"], projection: Projection) -> tuple[Tensor, Tensor | None]:
    return (weight, None) if projection.bias is None else (weight[:, :-1], weight[:, -1])


class PairSite(Site):
    """A `PairAdapter` on one or two projections.

    Args:
        place: The projections.
        state: The method's state for them.
        name: Name of the adapter.
    """

    adapter: PairAdapter

    def __init__(self, place: PairPlace, state: State, name: str) -> None:
        super().__init__(state)
        self.adapter, self.place, self.name = place.adapter, place, name
        self._before: list[tuple[LinearLayer, nn.Parameter, nn.Parameter | None]] = []
        # In a tuple, since `nn.Module` would register the halves as submodules.
        self._halves: tuple[PairHalf, ...] = tuple(
            PairHalf(self, projection, second=bool(i)) for i, projection in enumerate(place.projections)
        )
        for half in self._halves:
            readers = place.readers.get(half.projection.path, ())
            push(half.projection.module, f"{name}:{place.role}:{int(half.second)}", half, readers)
        self._halves[0].add_module("pair", self)  # the state is in the model once
        self.train(self._halves[0].training)

    def part(self, second: bool) -> tuple[Float[Tensor, "rows columns"], Tensor | None]:
        """Return the adapted weight and bias of one of the two projections, in the state's dtype.

        Args:
            second: True for the second projection.
        """
        if second:
            projection, stacked = self._second()
            return self.place.unstacked(stacked, projection)
        first = self.adapter.first(self.working_state, self.strength).flatten(0, 1)
        return _without_bias(first, self.place.first)

    def _second(self) -> tuple[Projection, Float[Tensor, "heads out width"]]:
        projection, stacked = self.place.second, self.adapter.second(self.working_state)
        if projection is None or stacked is None:
            raise AdapterlabError(f"{self.adapter.name} has no second map for {self.place.first.path}")
        return projection, stacked

    def base_and_adapted(self) -> tuple[Tensor, Tensor]:
        """Return the first projection's weight before and after, with the change of both projections moved into it."""
        (before, _), (after, _) = self._first()
        return before, after

    def changes(self) -> dict[str, Tensor]:
        before, after = self._first()
        named = zip(("", ".bias"), before, after, strict=True)
        return {name: new - old for name, old, new in named if new is not None and old is not None}

    def _first(self) -> tuple[tuple[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]:
        first = self.place.first
        base = adapted = _with_bias(first).to(self.dtype)
        if self.active:
            mapped = self.adapter.first(self.working_state, self.strength)
            if self.place.second is not None:
                # Both second maps have the same column space, so the change of basis can be moved into the first map.
                projection, stacked = self._second()
                basis = torch.linalg.pinv(self.place.stacked(projection).double()) @ stacked.double()
                mapped = (basis @ mapped.double()).to(self.dtype)
            adapted = mapped.flatten(0, 1)
        return _without_bias(base, first), _without_bias(adapted, first)

    def neighbours(self, side: Side) -> Sequence[nn.Module]:
        found = [other for half in self._halves for other in half.neighbours(side)]
        return [other for other in found if not (isinstance(other, PairHalf) and other.site.name == self.name)]

    def merge(self) -> None:
        if self.merged:
            return
        with torch.no_grad():
            parts = [self.part(half.second) for half in self._halves]
        for half, (weight, bias) in zip(self._halves, parts, strict=True):
            layer, rows = half.projection.module, half.projection.index
            transposed = isinstance(layer, Conv1D)
            base = layer.get_parameter("weight")
            merged = (base.T if transposed else base).detach().clone()
            merged[rows] = weight.to(merged.dtype)
            swap_parameter(layer, "weight", _fixed(merged.T.contiguous() if transposed else merged))
            own_bias: nn.Parameter | None = layer.bias
            self._before.append((layer, base, own_bias))
            if bias is not None and own_bias is not None:
                shifted = own_bias.detach().clone()
                shifted[rows] = bias.detach().to(shifted.dtype)
                swap_parameter(layer, "bias", _fixed(shifted))
        self._set_merged(True)

    def unmerge(self) -> None:
        for layer, weight, bias in reversed(self._before):
            swap_parameter(layer, "weight", weight)
            if bias is not None:
                swap_parameter(layer, "bias", bias)
        self._before = []
        self._set_merged(False)

    def _set_merged(self, merged: bool) -> None:
        self.merged = merged
        for half in self._halves:
            half.merged = merged

    def remove(self) -> None:
        for half in self._halves:
            half.remove()


def _fixed(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


class PairHalf(StackEntry):
    """One of the two layers of a `PairSite`.

    Args:
        site: The site, which holds the state.
        projection: The adapted rows of the layer.
        second: True for the second of the two layers.
    """

    def __init__(self, site: PairSite, projection: Projection, second: bool) -> None:
        super().__init__()
        # In a tuple, since `nn.Module` would register the site as a submodule of both halves.
        self._site, self.projection, self.second, self.merged = (site,), projection, second, False

    @property
    def site(self) -> PairSite:
        """The site, which holds the state."""
        return self._site[0]

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        base = self.below.weight
        if not self.site.active:
            return base
        return self._with_rows(base, self.site.part(self.second)[0])

    @property
    def bias(self) -> Tensor | None:
        base = self.below.bias
        if not self.site.active or base is None:
            return base
        bias = self.site.part(self.second)[1]
        return base if bias is None else self._with_rows(base, bias)

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        site = self.site
        if not site.active:
            return self.below(x)
        if self.projection.fused or self.second:
            return in_state_dtype(x, site.dtype, lambda: affine(x, self.weight, self.bias))
        padded = x if self.projection.bias is None else pad(x, (0, 1), value=1.0)
        return in_state_dtype(x, site.dtype, lambda: site.adapter.forward(site.working_state, padded, site.strength))

    def _with_rows(self, base: Tensor, rows: Tensor) -> Tensor:
        """Return `base` with the projection's rows replaced."""
        rows = rows.to(base.dtype)
        index = self.projection.rows
        if index is None:
            return rows
        if isinstance(index, Tensor):
            return base.index_copy(0, index.to(base.device), rows)
        return torch.cat([base[: index.start], rows, base[index.stop :]])


def pair_places(decoder: Decoder, adapter: PairAdapter) -> Iterator[tuple[str, PairPlace]]:
    """Yield the pairs of a decoder with their paths.

    These are the keys with the queries, the values with the output and, if the method asks for it, the first layer of
    each feed-forward block. Under a rotary embedding the keys are adapted without the queries, and the queries by
    themselves if the method asks for it.

    Args:
        decoder: The decoder.
        adapter: The method.
    """
    for attention in decoder.attentions:
        heads, path = attention.kv_heads, attention.path
        query = attention.query if decoder.mixes_linearly else None
        yield (
            f"{path}.{'key' if query is None else 'query_key'}",
            PairPlace(adapter, attention.keys, query, Role.KEY, heads),
        )
        if query is None and adapter.lone_queries:
            yield f"{path}.query", PairPlace(adapter, attention.query, None, Role.QUERY, attention.heads)
        yield (
            f"{path}.value_output",
            PairPlace(adapter, attention.values, attention.output, Role.VALUE, heads),
        )
    if block := adapter.unit_block:
        for path, layer in linears(decoder.model).items():
            if role_of(path) is Role.UP:
                units = Projection(path, layer)
                yield path, PairPlace(adapter, units, None, Role.UP, max(1, units.shape[0] // block))
