"""Put an adapter on a model, and hold it.

`attach` prepares every site before it changes anything, so a failure leaves the model as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.base import Adapter, Context, LinearAdapter, ParameterAdapter, Role, State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.factors import FactorCache, default_cache
from adapterlab.surgery.sites import (
    STACK,
    LinearSite,
    LinearStack,
    ParameterSite,
    Site,
    linears,
    parameter_sites,
    parameters_of,
    role_of,
    select,
    weight_of,
)

Targets = str | Sequence[str]
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

    def parameters(self) -> list[nn.Parameter]:
        """What training moves, each once."""
        return list(dict.fromkeys(p for site in self.sites.values() for p in site.parameters()))

    @property
    def parameter_count(self) -> int:
        """How many numbers training moves."""
        return sum(p.numel() for p in self.parameters())

    @property
    def strength(self) -> float:
        """0 is the base model exactly, 1 the trained adapter; between and beyond as the method defines."""
        return next(iter(self.sites.values())).strength

    @strength.setter
    def strength(self, value: float) -> None:
        if any(site.merged for site in self.sites.values()):
            raise AdapterlabError("the strength of a merged adapter is fixed: unmerge() first")
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
            if any(not below.merged for below in site.neighbours("below")):
                raise AdapterlabError(f"{path}: the adapter beneath is not merged; merge it first, or detach it")
        for site in self.sites.values():
            site.merge()

    def unmerge(self) -> None:
        """Put the base's own weights back, bit for bit."""
        for path, site in self.sites.items():
            if site.merged and any(above.merged for above in site.neighbours("above")):
                raise AdapterlabError(f"{path}: the adapter above is still merged; unmerge it first")
        for site in self.sites.values():
            site.unmerge()

    def detach(self) -> None:
        """Take the adapter off: the model is what it was before `attach`, bit for bit."""
        self.unmerge()
        for site in self.sites.values():
            site.remove()
        for p, trainable in self._trainable_before.items():
            p.requires_grad_(trainable)
        self.sites = {}

    @torch.no_grad()
    def deltas(self) -> dict[str, Tensor]:
        """By path, what the adapter adds to each weight or parameter at its present strength, in the state's dtype."""
        changes = {}
        for path, site in self.sites.items():
            base, adapted = site.both()
            changes[path] = adapted - base
        return changes

    def regularizer(self) -> Tensor | None:
        """The sum of the method's own penalty over the sites, or None."""
        terms = [t for site in self.sites.values() if (t := self.adapter.regularizer(site.state)) is not None]
        return torch.stack(terms).sum() if terms else None

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Let the method act after optimizer step number `step` (from 0)."""
        for site in self.sites.values():
            self.adapter.after_step(site.state, step)

    def save(self, folder: str | Path) -> None:
        """Write the adapter to `folder`: see `adapterlab.surgery.store`."""
        from adapterlab.surgery.store import save

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
) -> Handle:
    """Put `adapter` on `model` in place and freeze the rest; the handle trains, scales, merges and removes it.

    `targets` names linear layers: `"all-linear"` (all but the one that makes the logits), or roles (`"query"`, `"down"`),
    endings (`"q_proj"`) or patterns of their paths. Methods that adapt other sites find these themselves. The random
    numbers of `init` come from `seed` alone. `loss` runs the model on calibration data; it is called once, and only for a
    method that starts from the gradients of the base's weights.

    Raises `AdapterlabError`, with the model untouched, where nothing matches, a name is taken, the base holds NaN, or the
    hyperparameters do not fit the layers.
    """
    states = initial_states(model, adapter, targets, seed=seed, factors=factors or _factors, loss=loss)
    return install(model, adapter, targets, name, states)


def initial_states(
    model: nn.Module,
    adapter: Adapter,
    targets: Targets,
    *,
    seed: int = 0,
    factors: FactorCache | None = None,
    loss: Callable[[], Tensor] | None = None,
    meta: bool = False,
) -> dict[str, State]:
    """The state of every site by its path, as `init` makes it; with `meta`, shapes alone. Changes nothing."""
    places = sites_for(model, adapter, targets)
    shapes = [(t.shape[0], t.shape[1]) if t.ndim == 2 else (t.shape[0], 1) for t in places.values()]
    if problem := adapter.validate(shapes):
        raise AdapterlabError(f"{adapter.name}: {problem}")
    generator = torch.Generator().manual_seed(seed)
    shared: dict[str, Tensor] = {}
    gradients = cache(partial(_gradients, model, targets, loss)) if loss is not None else None
    states = {}
    for path, tensor in places.items():
        base = torch.empty_like(tensor, device="meta") if meta else tensor.detach()
        # A sum is finite only if all its terms are, and costs a tenth of asking each.
        if not meta and not bool(base.sum().isfinite()) and not bool(torch.isfinite(base).all()):
            raise AdapterlabError(f"{path}: the base weight holds NaN or infinity, so nothing was attached")
        context = Context(
            site=path,
            role=role_of(path) if isinstance(adapter, LinearAdapter) else Role.OTHER,
            shapes=shapes,
            generator=generator,
            device=base.device,
            dtype=torch.float64 if base.dtype == torch.float64 else torch.float32,
            decompose=factors or FactorCache(),
            shared=shared,
            gradient=None if gradients is None else partial(lambda gradients, path: gradients()[path], gradients, path),
        )
        with torch.no_grad():
            states[path] = cast(LinearAdapter | ParameterAdapter, adapter).init(base, context)
    return states


def _gradients(model: nn.Module, targets: Targets, loss: Callable[[], Tensor]) -> dict[str, Tensor]:
    """The gradient of `loss()` by the weight of each linear layer, `(out, in)`; the model is left as it was."""
    layers = select(model, targets)
    weights = [cast(nn.Parameter, layer.weight) for layer in layers.values()]
    before = [weight.requires_grad for weight in weights]
    try:
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            value = loss()
            if not value.requires_grad:
                raise AdapterlabError(
                    "the loss given to attach does not come from the model's weights: run the model in it"
                )
            found = torch.autograd.grad(value, weights, materialize_grads=True)
    finally:
        for weight, trainable in zip(weights, before, strict=True):
            weight.requires_grad_(trainable)
    return {path: g.T if isinstance(layers[path], Conv1D) else g for path, g in zip(layers, found, strict=True)}


def sites_for(model: nn.Module, adapter: Adapter, targets: Targets) -> dict[str, Tensor]:
    """The base tensor of every site that `adapter` would stand on, by path."""
    if isinstance(adapter, LinearAdapter):
        return {path: weight_of(module) for path, module in select(model, targets).items()}
    if isinstance(adapter, ParameterAdapter):
        found = {path: getattr(owners[0][0], owners[0][1]) for path, owners in parameters_of(model, adapter)}
        if not found:
            raise AdapterlabError(
                f"{type(model).__name__} has no parameter that {adapter.name} adapts{adapter.where_else}"
            )
        return found
    raise AdapterlabError(f"{adapter.name} adapts a {adapter.site!r}, a kind of site that attach does not know")


def install(model: nn.Module, adapter: Adapter, targets: Targets, name: str, states: dict[str, State]) -> Handle:
    """Stand the given states on the model; raises `AdapterlabError` if `name` is taken."""
    if not name or "." in name:
        raise AdapterlabError(f"an adapter's name must not be empty or hold a dot: {name!r}")
    if isinstance(adapter, LinearAdapter):
        layers = linears(model)
        taken = any(name in cast(nn.ModuleDict, layers[path]._modules.get(STACK) or {}) for path in states)
    else:
        owners = dict(parameters_of(model, cast(ParameterAdapter, adapter)))
        taken = any(name in parameter_sites(owners[path]) for path in states)
    if taken:
        raise AdapterlabError(f"an adapter named {name!r} is attached already: give another name=")

    before = {p: p.requires_grad for p in model.parameters()}
    for p in before:
        p.requires_grad_(False)
    once: dict[Tensor, nn.Parameter] = {}
    sites: dict[str, Site] = {}
    for path, state in states.items():
        # A tensor that several sites share becomes one parameter in all of them.
        trainable = {key: once.setdefault(t, nn.Parameter(t.contiguous())) for key, t in state.trainable.items()}
        state = State(trainable, {key: t.contiguous() for key, t in state.frozen.items()})
        if isinstance(adapter, LinearAdapter):
            sites[path] = LinearSite(adapter, state)
            stack = cast("LinearStack | None", layers[path]._modules.get(STACK)) or LinearStack(layers[path])
            stack.push(name, cast(LinearSite, sites[path]))
        else:
            site = ParameterSite(cast(ParameterAdapter, adapter), state, owners[path])
            site.install(name)
            sites[path] = site
    return Handle(model, adapter, name, targets, sites, before)


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
