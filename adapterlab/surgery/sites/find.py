"""Find the places on a model that an adapter can be attached to, for each kind of site.

>>> from adapterlab.adapters import adapter
>>> places = places_for(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), adapter("lora"), "all-linear")
>>> {path: place.shape for path, place in places.items()}
{'0': (3, 4), '1': (2, 3)}
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from adapterlab.adapters.adapter_types import (
    PairAdapter,
    ParameterAdapter,
    PrefixAdapter,
    PromptAdapter,
    ResidualAdapter,
    RoutedAdapter,
)
from adapterlab.adapters.base import Adapter
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.peft_method import PeftAdapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.decoder import Decoder
from adapterlab.surgery.model.linear_layers import Targets, select
from adapterlab.surgery.sites.base import Place
from adapterlab.surgery.sites.linear import LinearPlace
from adapterlab.surgery.sites.pair import pair_places
from adapterlab.surgery.sites.parameter import ParameterPlace, parameters_of
from adapterlab.surgery.sites.peft import PeftPlace
from adapterlab.surgery.sites.peft_targets import refuse_peft
from adapterlab.surgery.sites.prefix import PrefixPlace
from adapterlab.surgery.sites.prompt import PromptPlace
from adapterlab.surgery.sites.residual import Positions, ResidualPlace
from adapterlab.surgery.sites.routed import RoutedPlace, RouterPlace, Shares


def places_for(model: nn.Module, adapter: Adapter, targets: Targets) -> Mapping[str, Place]:
    """Return every place on a model that an adapter would be attached to; changes nothing.

    Args:
        model: The model.
        adapter: The method and its hyperparameters.
        targets: Linear layers to adapt, see `select`; ignored by methods that adapt something else.

    Returns:
        Places by path.

    Raises:
        AdapterlabError: The model has no such place, or its structure is not supported.
    """
    found = _places(model, adapter, targets)
    if not found:
        hint = adapter.where_else if isinstance(adapter, ParameterAdapter) else ""
        raise AdapterlabError(f"{type(model).__name__} has no {adapter.site} that {adapter.name} adapts{hint}")
    return found


def _places(model: nn.Module, adapter: Adapter, targets: Targets) -> dict[str, Place]:
    refuse_peft(model)
    match adapter:
        case PeftAdapter():
            return {"peft": PeftPlace(adapter, model, targets)}
        case LinearAdapter():
            return {path: LinearPlace(adapter, path, layer) for path, layer in select(model, targets).items()}
        case ParameterAdapter():
            return {path: ParameterPlace(adapter, owners) for path, owners in parameters_of(model, adapter)}
        case PairAdapter():
            return dict(pair_places(Decoder(model), adapter))
        case ResidualAdapter():
            decoder, positions = Decoder(model), Positions(adapter.positions, adapter.edits_whole_text)
            chosen = [block for block in decoder.blocks if adapter.chooses(block.layer, len(decoder.blocks))]
            return {block.path: ResidualPlace(adapter, decoder, block, positions) for block in chosen}
        case PromptAdapter():
            return {"prompt": PromptPlace(adapter, Decoder(model))}
        case PrefixAdapter():
            decoder = Decoder(model)
            adapted = [a for a in decoder.attentions if adapter.chooses(a.layer, len(decoder.attentions))]
            return {a.path: PrefixPlace(adapter, decoder, a, first=a is adapted[0]) for a in adapted}
        case RoutedAdapter():
            layers = select(model, targets)
            shares = Shares(len(layers))
            routed = {
                path: RoutedPlace(adapter, path, layer, shares, i) for i, (path, layer) in enumerate(layers.items())
            }
            return {"router": RouterPlace(adapter, Decoder(model), shares), **routed}
    raise AdapterlabError(f"{adapter.name} adapts a {adapter.site!r}, a kind of site that attach does not support")
