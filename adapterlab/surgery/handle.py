"""An attached adapter: train it, scale it, merge it, save it, detach it.

>>> import torch
>>> from adapterlab.adapters import adapter
>>> from adapterlab.surgery import attach
>>> model = nn.Sequential(nn.Linear(4, 4))
>>> handle = attach(model, adapter("lora", rank=2))
>>> handle.parameter_count
16
>>> handle.strength = 0.5
>>> {path: delta.abs().max().item() for path, delta in handle.deltas().items()}
{'0': 0.0}
>>> handle.detach()
>>> model
Sequential(
  (0): Linear(in_features=4, out_features=4, bias=True)
)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery import adapter_files
from adapterlab.surgery.export import merged, peft_export
from adapterlab.surgery.freezing import Frozen, release
from adapterlab.surgery.model.sharded import on_first, refuse_sharded, reshard, whole
from adapterlab.surgery.model.submodules import in_adapter
from adapterlab.surgery.model.where import Where
from adapterlab.surgery.reference import reference_model
from adapterlab.surgery.sites.base import Site, swap_parameter
from adapterlab.surgery.sites.shared import release_shared

T = TypeVar("T")
_HANDLES = "adapterlab_handles"
"""Attribute of a model with its handles by name."""


def attached(model: nn.Module) -> Mapping[str, Handle]:
    """Return the handles of the adapters on a model by name, in the order in which they were attached.

    Args:
        model: The model that was given to `attach` or `load`.
    """
    handles: dict[str, Handle] = vars(model).get(_HANDLES, {})
    return MappingProxyType(handles)


@dataclass(eq=False)
class Handle:
    """An adapter attached to a model."""

    model: nn.Module
    """The model, which is changed in place."""
    adapter: Adapter
    """The method and its hyperparameters."""
    name: str
    """Name of the adapter on the model."""
    where: Where
    """The choice of places given to `attach`."""
    sites: dict[str, Site]
    """Sites by the path of the layer or parameter that each adapts."""
    _frozen: Frozen = field(repr=False)
    new_heads: dict[str, nn.Parameter] = field(default_factory=dict)
    """Parameters by path that the model's checkpoint did not have: trained directly, and reset by `detach`."""
    _new_heads_before: dict[str, Tensor] = field(default_factory=dict, repr=False)
    trained_too: dict[str, nn.Parameter] = field(default_factory=dict)
    """Parameters by path of the modules that are trained beside the adapter: reset by `detach`, unscaled by `strength`."""
    _trained_before: dict[str, nn.Parameter] = field(default_factory=dict, repr=False)
    _hooks: list[RemovableHandle] = field(default_factory=list, repr=False)
    scores: Mapping[str, float] = field(default_factory=dict)
    """Scores by name, for the model card that `model.save_pretrained` writes."""
    steps_taken: int = field(default=0, repr=False)
    """Number of calls of `after_step`."""
    has_reference: bool = field(default=False, repr=False)
    """True once `reference` has been called."""
    _undo: list[Callable[[Handle], None]] = field(default_factory=list, repr=False)
    base: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Fingerprints of the base's parameters by path, as they were before any adapter was attached."""

    def __post_init__(self) -> None:
        vars(self.model).setdefault(_HANDLES, {})[self.name] = self

    @property
    def active(self) -> bool:
        """True if the model computes with the adapter, merged or not."""
        return any(site.enabled and (site.merged or site.strength != 0) for site in self.sites.values())

    def parameters(self) -> list[nn.Parameter]:
        """Return all trained parameters, each once: the adapter's, the new heads, and those of `trained_too`."""
        self._follow()
        return [*self._own_parameters(), *self.new_heads.values(), *self.trained_too.values()]

    def _follow(self) -> None:
        """Make all trained parameters those that an optimizer takes, if `fully_shard` has divided the model."""
        reshard(self.model)
        for parameters in (self.new_heads, self.trained_too):
            for path in parameters:
                now = self.model.get_parameter(path)
                if now is not self._trained_before.get(path):
                    parameters[path] = now

    def requires_grad_(self, trains: bool = True) -> Handle:
        """Freeze or unfreeze all parameters of `parameters`, as `nn.Module.requires_grad_` does.

        Args:
            trains: True to train them.

        Returns:
            The handle.
        """
        for parameter in self.parameters():
            parameter.requires_grad_(trains)
        return self

    def _own_parameters(self) -> list[nn.Parameter]:
        return list(dict.fromkeys(p for site in self.sites.values() for p in site.trained.values()))

    @property
    def parameter_count(self) -> int:
        """Number of trained scalars of the adapter, without new heads and `trained_too`."""
        return sum(p.numel() for p in self._own_parameters())

    @property
    def strength(self) -> float:
        """Strength of the adapter: 0 is the base model exactly, 1 the trained adapter, others as the method defines.

        Setting it raises `AdapterlabError` if the adapter is merged or the method does not support the value.
        """
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
        """Yield with the adapter disabled: within the block the model computes as without it.

        The modules of `trained_too` have their values from before `attach`; new heads keep those that they have.

        Raises:
            AdapterlabError: The adapter is merged, or modules are trained beside it and the model is divided over
                processes.
        """
        if any(site.merged for site in self.sites.values()):
            raise AdapterlabError("a merged adapter cannot be disabled: unmerge() first")
        if self.trained_too:
            refuse_sharded(self.model, "modules of trained_too cannot be put back; attach with trained_too=()")
        before = [(site, site.enabled) for site in self.sites.values()]
        try:
            for site, _ in before:
                site.enabled = False
            self._swap_trained(self._trained_before)
            yield
        finally:
            self._swap_trained(self.trained_too)
            for site, enabled in before:
                site.enabled = enabled

    def _swap_trained(self, parameters: Mapping[str, nn.Parameter]) -> None:
        for path, parameter in parameters.items():
            owner, _, name = path.rpartition(".")
            swap_parameter(self.model.get_submodule(owner), name, parameter)

    def reference(self) -> nn.Module:
        """Return the model without this adapter, as `ref_model` of TRL's trainers. It shares all weights with the model.

        Adapters that are attached below, merged or not, stay part of it. It is in evaluation mode while it runs.

        Returns:
            A module of the model's class; its calls disable the adapter for their duration.
        """
        self.has_reference = True
        return reference_model(self.model, self.disabled)

    def merge(self) -> None:
        """Replace the base's weights by the adapted ones, so that calls have no overhead; undone by `unmerge`.

        Raises:
            AdapterlabError: The method does not change weights, an adapter below is not merged, or the model is divided
                over processes.
        """
        refuse_sharded(self.model, "merge with save_merged(folder), which writes the merged model")
        if not self.adapter.mergeable:
            raise AdapterlabError(f"{self.adapter.name} does not change a weight, so it cannot be merged")
        for path, site in self.sites.items():
            if any(not getattr(below, "merged", False) for below in site.neighbours("below")):
                raise AdapterlabError(f"{path}: the adapter below is not merged; merge it first, or detach it")
        for site in self.sites.values():
            site.merge()

    def unmerge(self) -> None:
        """Restore the base's own weights, bit for bit.

        Raises:
            AdapterlabError: An adapter above is still merged.
        """
        for path, site in self.sites.items():
            if site.merged and any(getattr(above, "merged", False) for above in site.neighbours("above")):
                raise AdapterlabError(f"{path}: the adapter above is still merged; unmerge it first")
        for site in reversed(self.sites.values()):
            site.unmerge()

    def detach(self) -> None:
        """Remove the adapter; the model is as it was before `attach`, bit for bit.

        Raises:
            AdapterlabError: The model is divided over processes.
        """
        refuse_sharded(self.model, "an adapter cannot be detached; compute without it in handle.disabled()")
        self.unmerge()
        for undo in self._undo:
            undo(self)
        for site in self.sites.values():
            site.remove()
        release_shared(self.model, self.name)
        for hook in self._hooks:
            hook.remove()
        release(self._frozen)
        with torch.no_grad():
            for path, parameter in self.new_heads.items():
                parameter.copy_(self._new_heads_before[path])
            for path, parameter in self.trained_too.items():
                parameter.copy_(self._trained_before[path])
        self.sites, self.new_heads, self.trained_too, self._frozen = {}, {}, {}, {}
        self._hooks, self._undo = [], []
        handles = vars(self.model).get(_HANDLES, {})
        if handles.get(self.name) is self:
            del handles[self.name]
        if not handles:
            vars(self.model).pop(_HANDLES, None)

    @torch.no_grad()
    def deltas(self) -> dict[str, Tensor]:
        """Return what the adapter adds to each weight or parameter at its present strength.

        Returns:
            Differences in the state's dtype by path. The key of a linear layer's weight is the layer's path, that of its
            bias `path.bias`. Empty for a method that changes no weight, such as a prompt.
        """
        with whole(self.model, lambda path: True):
            return {f"{path}{name}": t for path, site in self.sites.items() for name, t in site.changes().items()}

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """Return all trained parameters as groups for an optimizer, each with the learning rate that the method states.

        >>> from adapterlab.adapters import adapter
        >>> from adapterlab.surgery import attach
        >>> handle = attach(nn.Sequential(nn.Linear(4, 4)), adapter("lora", rank=2, lr_ratio=16.0))
        >>> optimizer = torch.optim.AdamW(handle.parameter_groups(lr=1e-3))
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.001, 0.016]

        Args:
            lr: Learning rate of the parameters for which the method states no other.

        Returns:
            One group for each ratio in `adapter.lr_ratios`, with the ratio as `lr_ratio`; those with ratio 1 first.
        """
        self._follow()
        ratios = self.adapter.lr_ratios
        whole = [*self.new_heads.values(), *self.trained_too.values()]
        groups: dict[float, dict[nn.Parameter, None]] = {1.0: dict.fromkeys(whole)}
        for site in self.sites.values():
            for name, parameter in site.trained.items():
                groups.setdefault(ratios.get(name, 1.0), {})[parameter] = None
        return [
            {"params": list(parameters), "lr": lr * ratio, "lr_ratio": ratio}
            for ratio, parameters in groups.items()
            if parameters
        ]

    def regularizer(self) -> Tensor | None:
        """Return the mean of the method's own penalty over the sites, a scalar, or None if it has none.

        Add it to the loss before the loss is scaled for mixed precision in float16.
        """
        terms = [t for site in self.sites.values() if (t := site.regularizer()) is not None]
        return torch.stack(terms).mean() if terms else None

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Run the method's own update after an optimizer step, before the gradients are cleared.

        AdaLoRA measures importance by the gradients, which must not be scaled: with a `torch.amp.GradScaler`, call this
        after `scaler.step`, which divides them by the scale, and not for a step that the scaler skipped.

        Args:
            step: Index of the optimizer step, from 0.
        """
        self.steps_taken += 1
        if type(self.adapter).after_step is Adapter.after_step:
            return
        with whole(self.model, in_adapter, changed=True):
            self.adapter.after_step([state for site in self.sites.values() for state in site.states], step)

    def save(self, folder: str | Path) -> None:
        """Write the adapter, the new heads and `trained_too` to a folder that `adapterlab.load` reads.

        On a model divided by `fully_shard` all processes must call this: they gather the adapter, and the process of rank
        0 writes. The call returns on all of them when the files are complete.

        Args:
            folder: The folder; created if it does not exist.
        """
        self._on_first(lambda: self._write(folder))

    def _on_first(self, task: Callable[[], T], base: bool = False) -> T:
        """Run a task that reads the trained parameters, and those of the base if `base`, as `on_first` does."""
        beside = {*self.new_heads, *self.trained_too}
        return on_first(self.model, lambda path: base or in_adapter(path) or path in beside, task)

    def _write(self, folder: str | Path, below: Sequence[str] = (), beside: Mapping[str, Tensor] | None = None) -> None:
        self._follow()
        parts = self.adapter, self.where, self.sites, self.new_heads, self.trained_too
        adapter_files.write(Path(folder), *parts, below=below, base=self.base, beside=beside)

    def save_merged(self, folder: str | Path, tokenizer: Any = None) -> None:
        """Write the model with its adapters merged as a folder that `from_pretrained` of transformers loads.

        The folder has the files, names, shapes and dtypes of the base model. The attached model is left as it was. On a
        model divided by `fully_shard` all processes must call this; that of rank 0 gathers the whole model and writes.

        Args:
            folder: Folder to write to; created if it does not exist.
            tokenizer: Tokenizer or processor to write into the same folder, or None.

        Raises:
            AdapterlabError: The model is quantized or not one of transformers, or an attached adapter does not change
                weights. All attached adapters are merged, at their present strengths.
        """
        self._on_first(lambda: merged.save_merged(self.model, folder, tokenizer), base=True)

    def export_peft(
        self, folder: str | Path, base: str | None = None, nearest: int | None = None
    ) -> peft_export.PeftExport:
        """Write the adapter as a folder that `PeftModel.from_pretrained` of PEFT loads.

        On a model divided by `fully_shard` all processes must call this; that of rank 0 gathers the whole model and writes.

        Args:
            folder: Folder to write to; created if it does not exist.
            base: Folder or hub id of the base model; by default that which the model was loaded from.
            nearest: Rank of the LoRA that is written if PEFT cannot hold the adapter exactly. The folder's README then
                states its errors.

        Returns:
            PEFT's name of the written method, and the relative errors in all and each of the layers.

        Raises:
            CannotExportError: PEFT cannot hold the adapter and `nearest` is not given; the message has the ranks that
                give an error of 10 % and 1 %. Nothing is written.
        """
        return self._on_first(partial(self._export, folder, base, nearest), base=True)

    def _export(self, folder: str | Path, base: str | None, nearest: int | None) -> peft_export.PeftExport:
        self._follow()
        return peft_export.export_peft(self, folder, base, nearest)
