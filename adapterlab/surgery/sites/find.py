"""Find the places on a model that an adapter can be attached to, for each kind of site.

>>> from adapterlab.adapters import adapter
>>> places = places_for(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), adapter("lora"))
>>> {path: place.shape for path, place in places.items()}
{'0': (3, 4), '1': (2, 3)}
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TypeVar, cast

from torch import nn

from adapterlab.adapters import adapter as make_adapter
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
from adapterlab.surgery.model.linear_layers import candidates, chosen
from adapterlab.surgery.model.readers import readers_of
from adapterlab.surgery.model.sharded import refuse_sharded
from adapterlab.surgery.model.where import ALL, Targets, Where
from adapterlab.surgery.sites.base import Place
from adapterlab.surgery.sites.linear import LinearPlace
from adapterlab.surgery.sites.matrix import matrix_places
from adapterlab.surgery.sites.pair import pair_places
from adapterlab.surgery.sites.parameter import parameter_places
from adapterlab.surgery.sites.peft import PeftPlace
from adapterlab.surgery.sites.peft_targets import refuse_peft
from adapterlab.surgery.sites.positions import Positions
from adapterlab.surgery.sites.prefix import PrefixPlace
from adapterlab.surgery.sites.prompt import PromptPlace
from adapterlab.surgery.sites.residual import ResidualPlace
from adapterlab.surgery.sites.routed import RoutedPlace, RouterPlace, Shares

A = TypeVar("A", bound=Adapter)


def places_for(model: nn.Module, adapter: Adapter, targets: Targets | Where = ALL) -> Mapping[str, Place]:
    """Return every place on a model that an adapter would be attached to; changes nothing.

    Args:
        model: The model.
        adapter: The method and its hyperparameters.
        targets: The places to adapt, see `Where`.

    Returns:
        Places by path.

    Raises:
        AdapterlabError: The model has no such place, its structure is not supported, or the targets name none.
    """
    where = targets if isinstance(targets, Where) else Where(targets)
    if where.settings and not isinstance(adapter, LinearAdapter | ParameterAdapter):
        raise AdapterlabError(f"{adapter.name} has the same settings everywhere: leave out settings by target")
    found = _places(model, adapter, where)
    if not found:
        hint = adapter.where_else if isinstance(adapter, ParameterAdapter) else ""
        raise AdapterlabError(f"{type(model).__name__} has no {adapter.site} that {adapter.name} adapts{hint}")
    return found


def _places(model: nn.Module, adapter: Adapter, where: Where) -> dict[str, Place]:
    refuse_peft(model)
    refuse_sharded(model, "attach or load the adapter before fully_shard")
    match adapter:
        case PeftAdapter():
            return {"peft": PeftPlace(adapter, model, where)}
        case LinearAdapter():
            return _linear(model, adapter, where)
        case ParameterAdapter():
            parameters = parameter_places(model, adapter, readers_of(model))
            names = {path: place.module_paths for path, place in parameters.items()}
            kept = chosen(model, names, where) if parameters else []
            own = {path: _set(adapter, where, path, *names[path]) for path in kept}
            return {path: parameters[path].with_method(own[path]) for path in kept}
        case PairAdapter():
            decoder = Decoder(model)
            pairs = dict(pair_places(decoder, adapter))
            kept = chosen(model, {path: [p.path for p in pair.projections] for path, pair in pairs.items()}, where)
            for path in kept:
                pairs[path].readers = readers_of(model)
                pairs[path].refuse_unsuitable()
            return {path: pairs[path] for path in kept}
        case ResidualAdapter():
            decoder, positions = Decoder.with_backbone(model), Positions(adapter.positions, adapter.edits_whole_text)
            blocks = {b.path: b for b in decoder.blocks if adapter.chooses(b.layer, len(decoder.blocks))}
            kept = chosen(model, dict.fromkeys(blocks, ()), where)
            return {path: ResidualPlace(adapter, decoder, blocks[path], positions) for path in kept}
        case PromptAdapter():
            kept = chosen(model, {"prompt": ()}, where)
            return {path: PromptPlace(adapter, Decoder(model)) for path in kept}
        case PrefixAdapter():
            decoder = Decoder.with_backbone(model)
            attentions = {a.path: a for a in decoder.attentions if adapter.chooses(a.layer, len(decoder.attentions))}
            kept = chosen(model, dict.fromkeys(attentions, ()), where)
            return {path: PrefixPlace(adapter, decoder, attentions[path], path == kept[0]) for path in kept}
        case RoutedAdapter():
            return _routed(model, adapter, where)
    raise AdapterlabError(f"{adapter.name} adapts a {adapter.site!r}, a kind of site that attach does not support")


def _linear(model: nn.Module, adapter: LinearAdapter, where: Where) -> dict[str, Place]:
    """Return linear layers and, if targets name them, embeddings, convolutions and experts."""
    readers, layers = readers_of(model), candidates(model, where)
    matrices = {} if where.targets == ALL else matrix_places(model, adapter, readers)
    names: dict[str, Sequence[str]] = dict.fromkeys(layers, ())
    names |= {path: place.module_paths for path, place in matrices.items()}
    places: dict[str, Place] = {}
    for path in chosen(model, names, where):
        own = _set(adapter, where, path, *names[path])
        if path in layers:
            places[path] = LinearPlace(own, path, layers[path], readers.get(path, ()))
        else:
            places[path] = matrices[path].with_method(own)
    return places


def _routed(model: nn.Module, adapter: RoutedAdapter, where: Where) -> dict[str, Place]:
    layers, readers = candidates(model, where), readers_of(model)
    kept = chosen(model, dict.fromkeys(layers, ()), where)
    read = [path for path in kept if path in readers]
    if read and where.targets != ALL:
        raise AdapterlabError(f"{read[0]}: {_why(readers[read[0]])}, which {adapter.name} cannot change")
    if read:
        warnings.warn(f"{adapter.name} leaves out {', '.join(read)}: {_why(readers[read[0]])}", stacklevel=5)
    kept = [path for path in kept if path not in readers]
    shares = Shares(len(kept))
    routed = {path: RoutedPlace(adapter, path, layers[path], shares, i) for i, path in enumerate(kept)}
    return {"router": RouterPlace(adapter, Decoder(model), shares), **routed}


def _why(readers: Sequence[nn.Module]) -> str:
    return f"{type(readers[0]).__name__} reads the layer's weight without calling the layer"


def _set(adapter: A, where: Where, path: str, *names: str) -> A:
    """Return the adapter with the settings that hold at one place."""
    changed = where.settings_at(path, *names)
    if not changed:
        return adapter
    same = {key: value for key, value in adapter.settings().items() if key != "name"}
    return cast(A, make_adapter(adapter.name, **{**same, **changed}))
