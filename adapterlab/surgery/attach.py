"""Put an adapter on a model, and hold it.

`attach` prepares every site before it changes anything, so a failure leaves the model as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from adapterlab.adapters.base import Adapter
from adapterlab.adapters.context import Context
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.init.calibration import layer_inputs, weight_gradients
from adapterlab.surgery.init.svd_cache import FactorCache, default_cache
from adapterlab.surgery.model.new_heads import fresh_parameters, redraw
from adapterlab.surgery.model.weights import readable
from adapterlab.surgery.sites.base import Place, Site
from adapterlab.surgery.sites.find import Targets, places_for

T = TypeVar("T")

_factors = FactorCache(default_cache() / "factors")


@dataclass(eq=False)
class Handle:
    """An adapter on a model: what to train, how strong, and how to take it off again."""

    model: nn.Module
    adapter: Adapter
    name: str
    targets: Targets
    sites: dict[str, Site]
    """By the path of the layer or parameter that each adapts."""
    _trainable_before: dict[nn.Parameter, bool] = field(repr=False)
    fresh: dict[str, nn.Parameter] = field(default_factory=dict)
    """By name, the model's own parameters that no checkpoint had: trained as they are, put back by `detach`."""
    _fresh_before: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def parameters(self) -> list[nn.Parameter]:
        """What training moves, each once: the adapter's, and the fresh ones of the model."""
        return [*self._own(), *self.fresh.values()]

    def _own(self) -> list[nn.Parameter]:
        return list(dict.fromkeys(p for site in self.sites.values() for p in site.parameters()))

    @property
    def parameter_count(self) -> int:
        """How many numbers of the adapter training moves."""
        return sum(p.numel() for p in self._own())

    @property
    def strength(self) -> float:
        """0 is the base model exactly, 1 the trained adapter; between and beyond as the method defines."""
        return next(iter(self.sites.values())).strength

    @strength.setter
    def strength(self, value: float) -> None:
        if any(site.merged for site in self.sites.values()):
            raise AdapterlabError("the strength of a merged adapter is fixed: unmerge() first")
        if problem := self.adapter.strength_problem(float(value)):
            raise AdapterlabError(f"{self.adapter.name}: {problem}")
        for site in self.sites.values():
            site.strength = float(value)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base model answers within this block."""
        if any(site.merged for site in self.sites.values()):
            raise AdapterlabError("a merged adapter cannot be disabled: unmerge() first")
        before = [(site, site.enabled) for site in self.sites.values()]
        try:
            for site, _ in before:
                site.enabled = False
            yield
        finally:
            for site, enabled in before:
                site.enabled = enabled

    def merge(self) -> None:
        """Put the adapted weights in the base's place, so that the model runs at its own speed. `unmerge` undoes it.

        Raises `AdapterlabError` if an adapter beneath is not merged, since the sum could not be taken apart.
        """
        if not self.adapter.mergeable:
            raise AdapterlabError(f"{self.adapter.name} is no change of a weight, so it cannot be merged")
        for path, site in self.sites.items():
            if any(not getattr(below, "merged", False) for below in site.neighbours("below")):
                raise AdapterlabError(f"{path}: the adapter beneath is not merged; merge it first, or detach it")
        for site in self.sites.values():
            site.merge()

    def unmerge(self) -> None:
        """Put the base's own weights back, bit for bit."""
        for path, site in self.sites.items():
            if site.merged and any(getattr(above, "merged", False) for above in site.neighbours("above")):
                raise AdapterlabError(f"{path}: the adapter above is still merged; unmerge it first")
        for site in reversed(self.sites.values()):
            site.unmerge()

    def detach(self) -> None:
        """Take the adapter off: the model is what it was before `attach`, bit for bit."""
        self.unmerge()
        for site in self.sites.values():
            site.remove()
        for p, trainable in self._trainable_before.items():
            p.requires_grad_(trainable)
        with torch.no_grad():
            for name, parameter in self.fresh.items():
                parameter.copy_(self._fresh_before[name])
        self.sites, self.fresh = {}, {}

    @torch.no_grad()
    def deltas(self) -> dict[str, Tensor]:
        """By path, what the adapter adds to each weight or parameter at its present strength, in the state's dtype.

        A linear layer's path is its weight's, and `path.bias` its bias, where the method changes that too. Empty for a
        method that changes none, like a prompt.
        """
        return {f"{path}{name}": t for path, site in self.sites.items() for name, t in site.changes().items()}

    def regularizer(self) -> Tensor | None:
        """The sum of the method's own penalty over the sites, or None."""
        terms = [t for site in self.sites.values() if (t := self.adapter.regularizer(site.state)) is not None]
        return torch.stack(terms).sum() if terms else None

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Let the method act after optimizer step number `step` (from 0), while the gradients are still there."""
        self.adapter.after_step([site.state for site in self.sites.values()], step)

    def save(self, folder: str | Path) -> None:
        """Write the adapter to `folder`: see `adapterlab.surgery.io.store`."""
        from adapterlab.surgery.io.store import save

        save(self, Path(folder))


def attach(
    model: nn.Module,
    adapter: Adapter,
    targets: Targets = "all-linear",
    name: str = "default",
    *,
    seed: int = 0,
    factors: FactorCache | None = None,
    loss: Callable[[], Tensor] | None = None,
    runs: Sequence[Callable[[], object]] = (),
) -> Handle:
    """Put `adapter` on `model` in place and freeze the rest; the handle trains, scales, merges and removes it.

    `targets` names linear layers: `"all-linear"` (all but the one that makes the logits), or roles (`"query"`, `"down"`),
    endings (`"q_proj"`) or patterns of their paths. Methods that adapt other sites find these themselves. The random
    numbers of `init`, and the start of a fresh head, come from `seed` alone.

    `loss` runs the model on calibration data; it is called once, and only for a method that starts from the gradients of the
    base's weights. Each of `runs` runs the model too, for a method that starts from what the layers see at the last token of
    each sequence (pad on the left): AntiPaSTO takes one run of the chosen prefixes and one of the rejected.

    Raises `AdapterlabError`, with the model untouched, where nothing matches, a name is taken, the base holds NaN, or the
    hyperparameters do not fit the layers.
    """
    adapter = adapter.informed(paired=bool(runs))
    places = places_for(model, adapter, targets)
    refuse_nan(model)
    states = initial_states(adapter, places, seed=seed, factors=factors or _factors, loss=loss, runs=runs)
    handle = install(model, adapter, targets, name, places, states)
    redraw(handle.fresh, seed)
    return handle


def initial_states(
    adapter: Adapter,
    places: Mapping[str, Place],
    *,
    seed: int = 0,
    factors: FactorCache | None = None,
    loss: Callable[[], Tensor] | None = None,
    runs: Sequence[Callable[[], object]] = (),
    saved: Mapping[str, Mapping[str, Tensor]] | None = None,
    meta: bool = False,
) -> dict[str, State]:
    """The state of every site by its path, as `init` makes it; with `meta`, shapes alone. Changes nothing.

    `saved` holds the frozen tensors of a file that is being loaded, by site and name.
    """
    shapes = [place.shape for place in places.values() if place.shape is not None]
    if problem := adapter.validate(shapes):
        raise AdapterlabError(f"{adapter.name}: {problem}")
    generator = torch.Generator().manual_seed(seed)
    shared: dict[str, Tensor] = {}
    gradients = cache(partial(weight_gradients, places, loss)) if loss is not None else None
    inputs = cache(partial(layer_inputs, places, runs)) if runs else None
    states = {}
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
            saved={} if saved is None else saved[path],
        )
        with torch.no_grad():
            states[path] = place.init(adapter, context)
    return states


def install(
    model: nn.Module,
    adapter: Adapter,
    targets: Targets,
    name: str,
    places: Mapping[str, Place],
    states: Mapping[str, State],
) -> Handle:
    """Stand the given states on the model; raises `AdapterlabError` if `name` is taken."""
    if not name or "." in name or ":" in name:
        raise AdapterlabError(f"an adapter's name must not be empty or hold a dot or a colon: {name!r}")
    if any(name in place.names for place in places.values()):
        raise AdapterlabError(f"an adapter named {name!r} is attached already: give another name=")

    before = {p: p.requires_grad for p in model.parameters()}
    for p in before:
        p.requires_grad_(False)
    once: dict[Tensor, nn.Parameter] = {}
    fresh = fresh_parameters(model)
    for p in fresh.values():
        p.requires_grad_(True)
    kept = {path: p.detach().clone() for path, p in fresh.items()}
    handle = Handle(model, adapter, name, targets, {}, before, fresh, kept)
    try:
        for path, state in states.items():
            # A tensor that several sites share becomes one parameter in all of them.
            trainable = {key: once.setdefault(t, nn.Parameter(t.contiguous())) for key, t in state.trainable.items()}
            frozen, derived = (
                {key: t.contiguous() for key, t in part.items()} for part in (state.frozen, state.derived)
            )
            state = State(trainable, frozen, derived)
            handle.sites[path] = places[path].install(adapter, state, name)
    except BaseException:
        handle.detach()
        raise
    return handle


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within this block what a model draws while it trains (its dropout, an adapter's) comes from `seed` alone.

    The global generators are left as they were.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def decompositions() -> FactorCache:
    """The cache of decompositions that `attach` uses unless it is given another."""
    return _factors


def _at(found: Callable[[], Mapping[str, T]], path: str) -> T:
    return found()[path]


def refuse_nan(model: nn.Module) -> None:
    """Raise `AdapterlabError` if a parameter of `model` holds NaN or infinity."""
    for path, parameter in model.named_parameters():
        if not parameter.is_meta and not all(map(_finite, readable(parameter.detach()))):
            raise AdapterlabError(f"{path}: the base holds NaN or infinity, so nothing was attached")


def _finite(base: Tensor) -> bool:
    # A sum is finite only if all its terms are, and costs a tenth of asking each.
    return bool(base.sum().isfinite()) or bool(torch.isfinite(base).all())
