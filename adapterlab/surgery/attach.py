"""Attach an adapter to a model.

Every site is prepared before anything is changed, so a failure leaves the model as it was.

>>> from adapterlab.adapters import adapter
>>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
>>> handle = attach(model, adapter("lora", rank=1))
>>> list(handle.sites), [p.requires_grad for p in model[0].parameters(recurse=False)]
(['0', '2'], [False, False])
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from adapterlab.adapters.adapter_types import RoutedAdapter
from adapterlab.adapters.base import Adapter
from adapterlab.adapters.context import Context, same_place
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.freezing import freeze
from adapterlab.surgery.handle import Handle, attached
from adapterlab.surgery.init.calibration import input_moments, layer_inputs, weight_gradients
from adapterlab.surgery.init.original import original_weight
from adapterlab.surgery.init.read_only import read_only
from adapterlab.surgery.init.svd_cache import FactorCache, default_factors
from adapterlab.surgery.model.checkpointing import keep_gradients
from adapterlab.surgery.model.fingerprint import fingerprint
from adapterlab.surgery.model.new_heads import initialize, new_head_parameters
from adapterlab.surgery.model.submodules import in_adapter
from adapterlab.surgery.model.trained_modules import outside, trained_parameters
from adapterlab.surgery.model.weights import without_codes
from adapterlab.surgery.model.where import ALL, Targets, Where
from adapterlab.surgery.rows import RowsOfCalls
from adapterlab.surgery.sites.base import Place
from adapterlab.surgery.sites.find import places_for
from adapterlab.surgery.sites.linear import LayerPlace
from adapterlab.surgery.sites.shared import hold_shared
from adapterlab.surgery.trainer.methods import add_methods

T = TypeVar("T")


def attach(
    model: nn.Module,
    adapter: Adapter,
    targets: Targets = ALL,
    name: str = "default",
    *,
    exclude: Targets = (),
    layers: Sequence[int] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    factors: FactorCache | None = None,
    loss: Callable[[], Tensor] | None = None,
    runs: Sequence[Callable[[], object]] = (),
    original: nn.Module | str | Path | None = None,
    prompted: bool | None = None,
    trained_too: str | Sequence[str] | None = None,
) -> Handle:
    """Attach an adapter to a model in place, and freeze the model's own parameters.

    Adapters that are attached already are frozen too, with a warning if they trained: the new one trains on top of them.

    Args:
        model: The model to change. Its parameters must be finite.
        adapter: The method and its hyperparameters, from `adapterlab.adapter`.
        targets: Places to adapt: `"all-linear"` (all except output heads), or one or more of: a role (`"query"`,
            `"down"`), an ending of a path (`"q_proj"`), or a pattern (`"model.layers.0.*"`). Named explicitly, the output
            head, token embeddings, convolutions and the fused experts of a mixture can be adapted too. Methods that adapt
            something else (norms, whole parameters, blocks, attentions) choose among their own places in the same way,
            and all of them by default.
        name: Name of the adapter on the model; several adapters need different names.
        exclude: Places to leave out, named like `targets`.
        layers: Numbers of the blocks to adapt, negative ones counted from the end; None for all.
        settings: Hyperparameters that differ at some places, by target: `{"down": {"rank": 16, "alpha": 32.0}}`.
        seed: Seed of everything random: the adapter's initial values, and those of new heads.
        factors: Cache of singular value decompositions; by default one in `~/.cache/adapterlab`.
        loss: Runs the model on calibration data and returns a scalar. Called once, and only by methods that start from
            the gradients of the base's weights.
        runs: Functions that each run the model, for methods that start from the layers' inputs at the last token of each
            sequence (pad on the left) or at all tokens. AntiPaSTO takes one run of the chosen prefixes and one of the
            rejected; LoRA's starts `eva` and `corda` take runs of texts without padding.
        original: The model before quantization, or its folder, for LoRA's start `loftq`.
        prompted: True if the adapter is for prompts with answers, False for running text, None if for both or not known.
            ReFT edits the ends of prompts, and all positions of running text.
        trained_too: Modules to train fully beside the adapter, by path or ending of a path (PEFT's `modules_to_save`).
            By default the task heads: for a model of transformers without output embeddings, its own modules outside
            `base_model`, such as `classifier`, `score` or `qa_outputs`. PEFT does the same for its task types of
            classification. `()` for none. Task heads are never adapted themselves.

    Returns:
        A handle to train, scale, merge, save and detach the adapter.

    Raises:
        AdapterlabError: Nothing matches the targets, the name is taken, the base holds NaN or infinity, the
            hyperparameters do not fit the layers, or the method's `init` writes to the base's weights. The model is
            unchanged.
    """
    adapter = adapter.informed(paired=bool(runs), prompted=prompted)
    where = Where(targets, exclude, layers, settings or {})
    trained = trained_parameters(model, trained_too)
    places = places_beside(places_for(model, adapter, where), trained, adapter)
    refuse_nan(model)
    factors = factors or default_factors()
    base = list(model.parameters())
    states = initial_states(
        adapter, places, seed=seed, factors=factors, loss=loss, runs=runs, original=original, base=base
    )
    handle = install(model, adapter, where, name, places, states, trained)
    initialize(handle.new_heads, seed)
    return handle


def places_beside(
    places: Mapping[str, Place], trained: Mapping[str, nn.Parameter], adapter: Adapter
) -> Mapping[str, Place]:
    """Return the places without those whose parameters are trained as a whole.

    Args:
        places: Places by path.
        trained: Parameters that are trained beside the adapter, by path.
        adapter: The method.

    Raises:
        AdapterlabError: Nothing is left, or the method needs all of its places.
    """
    kept = outside(list(places), trained)
    if len(kept) == len(places):
        return places
    if not kept or isinstance(adapter, RoutedAdapter):
        lost = next(path for path in places if path not in kept)
        raise AdapterlabError(f"{lost} is both in targets and in trained_too: take it out of one of them")
    return {path: places[path] for path in kept}


def initial_states(
    adapter: Adapter,
    places: Mapping[str, Place],
    *,
    seed: int = 0,
    factors: FactorCache | None = None,
    loss: Callable[[], Tensor] | None = None,
    runs: Sequence[Callable[[], object]] = (),
    original: nn.Module | str | Path | None = None,
    saved: Mapping[str, Mapping[str, Tensor]] | None = None,
    meta: bool = False,
    base: Sequence[Tensor] | None = None,
) -> dict[str, State]:
    """Return the initial state of an adapter at each place; changes nothing.

    Args:
        adapter: The method, for which `places` were found.
        places: Places by path.
        seed: Seed of the initial values.
        factors: Cache of singular value decompositions; by default a new one in memory.
        loss: As in `attach`.
        runs: As in `attach`.
        original: As in `attach`.
        saved: Frozen tensors of an adapter that is being loaded, by path and name.
        meta: True to return states on the meta device, with shapes and no values.
        base: Tensors that `init` must not write to; by default the weight of each place.

    Returns:
        States by path.

    Raises:
        AdapterlabError: The hyperparameters do not fit the places, or `init` writes to the base.
    """
    shapes = [place.shape for place in places.values() if place.shape is not None]
    for own in dict.fromkeys(place.adapter for place in places.values()):
        there = [place.shape for place in places.values() if place.adapter == own and place.shape is not None]
        if problem := own.validate(there):
            raise AdapterlabError(f"{own.name}: {problem}")
    generator = torch.Generator().manual_seed(seed)
    shared: dict[str, Tensor] = {}
    linear = {path: place for path, place in places.items() if isinstance(place, LayerPlace)}
    layers = {path: place.layer for path, place in linear.items()}
    # Computed when the first place asks, and for all places at once.
    gradients = cache(partial(weight_gradients, layers, loss)) if loss is not None else None
    inputs = cache(partial(layer_inputs, layers, runs)) if runs else None
    moments = cache(partial(input_moments, layers, runs)) if runs else None
    protected = [place.like for place in places.values()] if base is None else base
    states = {}
    with nullcontext() if meta else read_only(protected, adapter.name):
        for path, place in places.items():
            context = Context(
                site=path,
                role=place.role,
                shapes=shapes,
                generator=generator,
                device=torch.device("meta") if meta else place.like.device,
                dtype=torch.float64 if place.like.dtype == torch.float64 else torch.float32,
                decompose=factors or FactorCache(),
                shared=shared,
                gradient=None if gradients is None else partial(_at, gradients, path),
                inputs=None if inputs is None else partial(_at, inputs, path),
                moments=None if moments is None else partial(_at, moments, path),
                original=None if original is None else partial(original_weight, original, path),
                saved={} if saved is None else saved[path],
            )
            context = replace(context, alike=partial(_alike, linear, context, adapter.name))
            with torch.no_grad():
                states[path] = place.init(context)
    return states


def _alike(layers: Mapping[str, LayerPlace], context: Context, method: str) -> list[Tensor]:
    """Return the weights of the layers at the same place in their blocks."""
    alike = [layer for path, layer in layers.items() if same_place(path) == context.place]
    return [layer.weight(method, context).to(context.device) for layer in alike]


def _at(compute: Callable[[], Mapping[str, T]], path: str) -> T:
    return compute()[path]


def install(
    model: nn.Module,
    adapter: Adapter,
    where: Where,
    name: str,
    places: Mapping[str, Place],
    states: Mapping[str, State],
    trained_too: Mapping[str, nn.Parameter] | None = None,
) -> Handle:
    """Attach an adapter with given states.

    Args:
        model: The model to change.
        adapter: The method and its hyperparameters.
        where: The choice that `places` were found for.
        name: Name of the adapter on the model.
        places: Places by path.
        states: States by path; a tensor that several of them share becomes one parameter.
        trained_too: Parameters of the model to train beside the adapter, by path.

    Returns:
        The handle of the attached adapter.

    Raises:
        AdapterlabError: The name is taken, empty, or has a dot or a colon.
    """
    if not name or "." in name or ":" in name:
        raise AdapterlabError(f"an adapter's name must not be empty or contain a dot or a colon: {name!r}")
    if name in attached(model) or any(name in place.names for place in places.values()):
        raise AdapterlabError(f"an adapter named {name!r} is attached already: give another name=")

    _warn_of_frozen_adapters(model, name)
    base = base_of(model, places, trained_too or {})
    before = freeze(model.parameters())
    new_heads = new_head_parameters(model)
    trained = dict(trained_too or {})
    for p in (*new_heads.values(), *trained.values()):
        p.requires_grad_(True)
    values_before = {path: p.detach().clone() for path, p in new_heads.items()}
    trained_before = {path: nn.Parameter(p.detach().clone(), requires_grad=False) for path, p in trained.items()}
    hooks = [*keep_gradients(model), *RowsOfCalls(model).hooks]
    heads = new_heads, values_before, trained, trained_before
    handle = Handle(model, adapter, name, where, {}, before, *heads, hooks, base=base)
    parameters: dict[Tensor, nn.Parameter] = {}
    try:
        for path, state in states.items():
            trainable = {
                key: parameters.setdefault(t, nn.Parameter(t.contiguous())) for key, t in state.trainable.items()
            }
            frozen, derived = (
                {key: t.contiguous() for key, t in part.items()} for part in (state.frozen, state.derived)
            )
            handle.sites[path] = places[path].install(State(trainable, frozen, derived), name)
        hold_shared(model, handle.sites, name)
        add_methods(handle)
    except BaseException:
        handle.detach()
        raise
    return handle


def base_of(model: nn.Module, places: Mapping[str, Place], trained_too: Collection[str]) -> dict[str, str]:
    """Return the fingerprints of a model's parameters, without those of adapters that are merged into them.

    Args:
        model: The model.
        places: Places of the adapter by path.
        trained_too: Paths of the parameters that are trained beside it.
    """
    own = fingerprint(model, places, {*new_head_parameters(model), *trained_too})
    for below in reversed(list(attached(model).values())):
        own |= {path: known for path, known in below.base.items() if path in own}
    return own


def _warn_of_frozen_adapters(model: nn.Module, name: str) -> None:
    """Warn that an adapter attached before, which still trains, is frozen like the rest of the model."""
    trains = any(p.requires_grad for path, p in model.named_parameters() if in_adapter(path))
    if trains:
        warnings.warn(
            f"the adapter attached before is frozen now, and {name!r} trains on top of it; to train both, call "
            "requires_grad_(True) on the handle of the other",
            stacklevel=4,
        )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Yield with torch's global generators seeded, and restore their state afterwards.

    Within the block everything random in forward passes (dropout, an adapter's own draws) depends on the seed alone.

    Args:
        seed: Seed of the generators.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def refuse_nan(model: nn.Module) -> None:
    """Raise an error if a parameter of a model is not finite; quantized ones are not checked.

    Args:
        model: The model.

    Raises:
        AdapterlabError: A parameter holds NaN or infinity.
    """
    for path, parameter in model.named_parameters():
        if not parameter.is_meta and not all(map(_finite, without_codes(parameter.detach()))):
            raise AdapterlabError(f"{path}: the base holds NaN or infinity, so nothing was attached")


def _finite(base: Tensor) -> bool:
    # A sum is finite only if all its terms are, and costs a tenth of checking each.
    return bool(base.sum().isfinite()) or bool(torch.isfinite(base).all())
