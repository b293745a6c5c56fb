"""A model into which PEFT has injected the layers of one of its methods.

PEFT changes the model as in any other program (`get_peft_model`). Its changes are recorded as a graft, so that detaching
and disabling the adapter undo them exactly, also for methods that change the base's weights.

>>> from adapterlab.adapters import adapter
>>> model = nn.Sequential(nn.Linear(4, 4))
>>> place = PeftPlace(adapter("peft:HIRA", r=2), model, Where())
>>> sum(tensor.numel() for tensor in place.untrained().values())
16
"""

from __future__ import annotations

import copy
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adapterlab.adapters.context import Context
from adapterlab.adapters.peft_method import PeftAdapter
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.submodules import in_adapter
from adapterlab.surgery.model.weights import shape_of
from adapterlab.surgery.model.where import Where
from adapterlab.surgery.sites.base import Place, Site
from adapterlab.surgery.sites.graft import Graft, record
from adapterlab.surgery.sites.peft_targets import MARK, targets_of

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
"""PEFT's files."""
INNER = "base_model.model."
"""Path of a model in PEFT's model of it."""


@dataclass(frozen=True)
class Injected:
    """A model that PEFT has changed."""

    wrapped: Any
    """PEFT's model of it."""
    names: Sequence[str]
    """Names in PEFT's model of the parameters that PEFT trains."""

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that PEFT trains, by their paths in the model with `/` in place of the dots."""
        return {name.removeprefix(INNER).replace(".", "/"): self.wrapped.get_parameter(name) for name in self.names}


class PeftPlace(Place):
    """A whole model, for a method of PEFT.

    Args:
        adapter: The method.
        model: The model.
        where: Linear layers to adapt; not used by methods that adapt something else.

    Raises:
        AdapterlabError: The model has other adapters, nothing matches the targets, or both `targets` and the config's
            `target_modules` are given.
    """

    adapter: PeftAdapter

    def __init__(self, adapter: PeftAdapter, model: nn.Module, where: Where) -> None:
        self.adapter, self.model = adapter, model
        if any(in_adapter(path) for path, _ in model.named_modules()):
            raise AdapterlabError(f"{adapter.name} cannot be attached on top of other adapters: detach them first")
        self._layers, self._changes = targets_of(adapter, model, where)
        self._injected: tuple[Graft, Injected] | None = None

    @property
    def like(self) -> Tensor:
        return next(self.model.parameters())

    @property
    def shape(self) -> tuple[int, int] | None:
        """The smallest number of outputs and the smallest number of inputs of a layer; None if PEFT chooses the places."""
        shapes = [shape_of(layer) for layer in self._layers.values()]
        return (min(rows for rows, _ in shapes), min(columns for _, columns in shapes)) if shapes else None

    @property
    def names(self) -> Collection[str]:
        return ()

    def untrained(self) -> dict[str, Tensor]:
        """Return the trained parameters by name, on the meta device; the model is not changed.

        Raises:
            AdapterlabError: PEFT cannot adapt the model.
        """
        try:
            injected = self._inject(_without_values(self.model))
        except AdapterlabError:
            if self.like.is_meta:
                raise
            injected = self._inject(copy.deepcopy(self.model))  # a method that reads weights fails on the meta device
        return {name: torch.empty_like(p, device="meta") for name, p in injected.parameters().items()}

    def init(self, context: Context) -> State:
        if context.device.type == "meta":
            return State(self.untrained())
        with torch.random.fork_rng():
            torch.manual_seed(context.generator.initial_seed())
            graft, injected = record(self.model, lambda: self._inject(self.model))
        state = State({name: p.detach() for name, p in injected.parameters().items()})
        graft.undo()
        self._injected = graft, injected
        return state

    def install(self, state: State, name: str) -> PeftSite:
        graft, injected = self._injected or record(self.model, lambda: self._inject(self.model))
        graft.apply()
        parameters = injected.parameters()
        for key, parameter in parameters.items():
            parameter.data = state[key].data
        return PeftSite(self.adapter, State(dict(parameters)), self.model, graft, injected.wrapped)

    def _inject(self, model: nn.Module) -> Injected:
        """Change a model by PEFT, and return PEFT's model of it."""
        from peft import get_peft_model

        config = self.adapter.config(**self._changes)
        try:
            with torch.enable_grad():
                wrapped = get_peft_model(model, config)
        except Exception as error:  # PEFT raises built-in exceptions for what does not fit
            if isinstance(error, MemoryError | torch.OutOfMemoryError) or "memory" in str(error):
                raise
            why = " ".join(str(error).split()) or type(error).__name__
            raise AdapterlabError(f"{self.adapter.name}: PEFT cannot adapt {type(model).__name__}: {why}") from error
        names = [name for name, p in wrapped.named_parameters() if p.requires_grad]
        if not names:
            raise AdapterlabError(
                f"{self.adapter.name}: PEFT trains nothing of {type(model).__name__} with these settings"
            )
        return Injected(wrapped, names)


class PeftSite(Site):
    """A method of PEFT on a model.

    The trained parameters are registered here too, by their paths in the model with `/` in place of the dots.

    Args:
        adapter: The method.
        state: The trained parameters of PEFT's layers.
        model: The model.
        graft: PEFT's changes of the model, which are made.
        wrapped: PEFT's model of it.
    """

    adapter: PeftAdapter

    def __init__(self, adapter: PeftAdapter, state: State, model: nn.Module, graft: Graft, wrapped: Any) -> None:
        super().__init__(state)
        self.adapter = adapter
        # In a tuple, since `nn.Module` would register the models as submodules.
        self._grafted = model, graft, wrapped
        model.__dict__[MARK] = True

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in ("strength", "enabled") and "_grafted" in self.__dict__:
            _, graft, _ = self._grafted
            (graft.apply if self.active else graft.undo)()

    def remove(self) -> None:
        model, graft, _ = self._grafted
        graft.undo()
        del model.__dict__[MARK]

    def changes(self) -> dict[str, Tensor]:
        raise AdapterlabError("PEFT does not tell what its methods add to a weight, so deltas() is not available")

    def write_files(self, folder: Path, heads: Mapping[str, Tensor], **settings: object) -> None:
        """Write the adapter as PEFT does: `adapter_config.json` and `adapter_model.safetensors`.

        Args:
            folder: An existing folder.
            heads: Trained new heads of the model by path, written as PEFT's `modules_to_save`.
            **settings: Entries of the config that describe the base model.
        """
        from peft import get_peft_model_state_dict

        model, _, wrapped = self._grafted
        tensors = dict(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
        config: dict[str, Any] = {**_plain(wrapped.peft_config["default"]), "inference_mode": True, **settings}
        paths = sorted({name.rpartition(".")[0] for name in heads})
        if paths:
            config["modules_to_save"] = [*(config.get("modules_to_save") or ()), *paths]
        for path in paths:
            tensors |= {f"{INNER}{path}.{name}": t for name, t in model.get_submodule(path).state_dict().items()}
        # Copies, since the file may not hold two views of one tensor.
        save_file({name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}, folder / TENSORS)
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    def read_files(self, folder: Path) -> None:
        """Read the tensors that `write_files` wrote, also those that are not trained.

        Args:
            folder: The folder.
        """
        from peft import set_peft_model_state_dict

        _, _, wrapped = self._grafted
        own = set(dict(wrapped.named_parameters())) | set(dict(wrapped.named_buffers()))
        heads = own & (tensors := load_file(folder / TENSORS)).keys()
        set_peft_model_state_dict(wrapped, {name: t for name, t in tensors.items() if name not in heads})


def _without_values(model: nn.Module) -> nn.Module:
    """Return a copy of a model on the meta device."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=False) for p in model.parameters()
    }
    memo |= {id(buffer): torch.empty_like(buffer, device="meta") for buffer in model.buffers()}
    return copy.deepcopy(model, memo)


def _plain(config: Any) -> dict[str, Any]:
    """Return PEFT's config as JSON can hold it."""
    return {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
