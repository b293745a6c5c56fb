"""Where an adapter would stand on a model: one way of looking for each kind of site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from adapterlab.adapters.adapter_types import PairAdapter, PrefixAdapter, PromptAdapter, ResidualAdapter, RoutedAdapter
from adapterlab.adapters.base import Adapter, LinearAdapter, ParameterAdapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.decoder import Decoder
from adapterlab.surgery.model.linear_layers import select
from adapterlab.surgery.sites.base import Place
from adapterlab.surgery.sites.linear import LinearPlace
from adapterlab.surgery.sites.pair import pair_places
from adapterlab.surgery.sites.parameter import ParameterPlace, parameters_of
from adapterlab.surgery.sites.prefix import PrefixPlace
from adapterlab.surgery.sites.prompt import PromptPlace
from adapterlab.surgery.sites.residual import Positions, ResidualPlace
from adapterlab.surgery.sites.routed import RoutedPlace, RouterPlace, Shares

Targets = str | Sequence[str]


def places_for(model: nn.Module, adapter: Adapter, targets: Targets) -> Mapping[str, Place]:
    """Every place on `model` that `adapter` would stand on, by path; changes nothing.

    `targets` matters to methods that adapt linear layers alone. Raises `AdapterlabError` where there is no such place.
    """
    found = _places(model, adapter, targets)
    if not found:
        mend = adapter.where_else if isinstance(adapter, ParameterAdapter) else ""
        raise AdapterlabError(f"{type(model).__name__} has no {adapter.site} that {adapter.name} adapts{mend}")
    return found


def _places(model: nn.Module, adapter: Adapter, targets: Targets) -> dict[str, Place]:
    match adapter:
        case LinearAdapter():
            return {path: LinearPlace(path, module) for path, module in select(model, targets).items()}
        case ParameterAdapter():
            return {path: ParameterPlace(owners) for path, owners in parameters_of(model, adapter)}
        case PairAdapter():
            return dict(pair_places(Decoder(model), adapter))
        case ResidualAdapter():
            decoder, positions = Decoder(model), Positions(adapter.positions)
            chosen = [block for block in decoder.blocks if adapter.chooses(block.layer, len(decoder.blocks))]
            return {block.path: ResidualPlace(decoder, block, positions) for block in chosen}
        case PromptAdapter():
            return {"prompt": PromptPlace(Decoder(model))}
        case PrefixAdapter():
            decoder = Decoder(model)
            seen = [a for a in decoder.attentions if adapter.chooses(a.layer, len(decoder.attentions))]
            return {a.path: PrefixPlace(decoder, a, first=a is seen[0]) for a in seen}
        case RoutedAdapter():
            layers = select(model, targets)
            shares = Shares(len(layers))
            routed = {path: RoutedPlace(path, layer, shares, i) for i, (path, layer) in enumerate(layers.items())}
            return {"router": RouterPlace(Decoder(model), shares), **routed}
    raise AdapterlabError(f"{adapter.name} adapts a {adapter.site!r}, a kind of site that attach does not know")
