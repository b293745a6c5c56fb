"""Layers of a model as PEFT names them, and the layers of PEFT in a model.

>>> module_names(nn.ModuleDict({"up": nn.Linear(2, 2), "down": nn.Linear(2, 2)}), ["up"])
['up']
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from torch import nn
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.peft_method import PeftAdapter
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.linear_layers import LinearLayer, linears, select
from adapterlab.surgery.model.where import Where

MARK = "adapterlab_peft"
"""Attribute of a model that has an adapter of PEFT, also while the adapter is disabled."""


def refuse_peft(model: nn.Module) -> None:
    """Raise an error if PEFT has an adapter on a model, whose layers are then not where they were.

    Args:
        model: The model.

    Raises:
        AdapterlabError: The model has an adapter of PEFT.
    """
    # By name, since PEFT need not be installed.
    names = {cls.__name__ for kind in {type(module) for module in model.modules()} for cls in kind.__mro__}
    if MARK in model.__dict__ or "BaseTunerLayer" in names:
        raise AdapterlabError(
            "the model has an adapter of PEFT attached: detach it, or call unload() or merge_and_unload() on PEFT's model"
        )


def module_names(model: nn.Module, chosen: Collection[str]) -> list[str]:
    """Return layers as PEFT's `target_modules`: by the last parts of their paths, if these name the same layers.

    Methods that share tensors over layers (Lily) share them among the layers that one name stands for.

    Args:
        model: The model.
        chosen: Paths of the layers.

    >>> model = nn.ModuleList([nn.ModuleDict({"up": nn.Linear(2, 2), "down": nn.Linear(2, 2)}) for _ in range(2)])
    >>> module_names(model, ["0.up", "1.up"]), module_names(model, ["0.up", "1.down"])
    (['up'], ['0.up', '1.down'])
    """
    endings = sorted({path.rpartition(".")[2] for path in chosen})
    named = {path for path, _ in model.named_modules() if path.rpartition(".")[2] in endings}
    return endings if named == set(chosen) else list(chosen)


def targets_of(
    adapter: PeftAdapter, model: nn.Module, where: Where
) -> tuple[Mapping[str, LinearLayer], dict[str, object]]:
    """Return the linear layers to adapt, and the settings of PEFT's config that follow from the model and the targets.

    Args:
        adapter: The method.
        model: The model.
        where: Linear layers to adapt; not used by methods that adapt something else.

    Returns:
        The layers by path, none if PEFT chooses the places; and the settings.

    Raises:
        AdapterlabError: Nothing matches the targets, or both `targets` and the config's `target_modules` are given.
    """
    fields = {f.name for f in dataclasses.fields(adapter)}
    changes: dict[str, object] = {"progressbar": False} if "progressbar" in fields else {}
    if adapter.finds_places:
        if where != Where():
            raise AdapterlabError(f"{adapter.name} finds its places itself: leave out targets ({where})")
        return {}, changes
    stated = getattr(adapter, "target_modules", None) is not None
    if stated and where != Where():
        raise AdapterlabError(f"{adapter.name}: both target_modules and targets are given: give one of them")
    layers = linears(model) if stated else select(model, where)
    if not stated:
        changes["target_modules"] = module_names(model, layers)
    if "fan_in_fan_out" in fields and any(isinstance(layer, Conv1D) for layer in layers.values()):
        changes["fan_in_fan_out"] = True
    return layers, changes
