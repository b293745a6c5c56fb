"""Find the linear layers of a model, by structure and by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from torch import nn
from transformers.pytorch_utils import Conv1D

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.surgery.model.new_heads import new_head_modules
from adapterlab.surgery.model.submodules import in_adapter
from adapterlab.surgery.model.trained_modules import head_modules
from adapterlab.surgery.model.where import ALL, Where

LinearLayer: TypeAlias = nn.Linear | Conv1D
"""A linear layer; `Conv1D` is GPT-2's, which stores its weight transposed."""


def linears(model: nn.Module) -> dict[str, LinearLayer]:
    """Return the linear layers of a model by path, without the output head and task heads.

    Args:
        model: A model; adapters that are already attached are skipped.

    >>> list(linears(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))))
    ['0', '2']
    """
    head, new, task_heads = output_head(model), new_head_modules(model), tuple(head_modules(model))
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and module is not head
        and path not in new
        and path.split(".")[0] not in task_heads
        and not in_adapter(path)
    }


def candidates(model: nn.Module, where: Where) -> dict[str, LinearLayer]:
    """Return the linear layers that a choice is made among, by path: with output heads only if targets are named.

    Args:
        model: A model.
        where: The choice.

    Raises:
        AdapterlabError: The model has no linear layer.

    >>> list(candidates(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), Where("1")))
    ['0', '1']
    """
    found = linears(model)
    if where.targets == ALL and not found:
        raise AdapterlabError(f"{type(model).__name__} has no linear layer to adapt{_packed_hint(model)}")
    if where.targets != ALL:
        found |= {path: head for path, head in _untied_heads(model).items() if path not in found}
    return found


def select(model: nn.Module, where: Where) -> dict[str, LinearLayer]:
    """Return the linear layers that a choice leaves, by path.

    Args:
        model: The model to search.
        where: The choice.

    Raises:
        UnknownNameError: A name in the choice matches no layer.
        AdapterlabError: The model has no linear layer, or a target is another kind of module.

    >>> list(select(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), Where("1")))
    ['1']
    """
    found = candidates(model, where)
    return {path: found[path] for path in chosen(model, dict.fromkeys(found, ()), where)}


def chosen(model: nn.Module, names: Mapping[str, Sequence[str]], where: Where) -> list[str]:
    """Return the paths that a choice leaves, with an error that explains a target of another kind.

    Args:
        model: The model.
        names: Further names of each place by path.
        where: The choice.

    Raises:
        UnknownNameError: A name in the choice matches no place.
        AdapterlabError: A target is a module that the method does not adapt.
    """
    try:
        return where.choose(type(model).__name__, names)
    except UnknownNameError as error:
        _raise_if_other_module(model, error.name)
        raise


def token_embedding(model: nn.Module) -> nn.Module | None:
    """Return the table of token embeddings, or None if the model has none or does not name it.

    Args:
        model: A model.
    """
    return _named_by(model, "get_input_embeddings")


def output_head(model: nn.Module) -> nn.Module | None:
    """Return the output head, or None if the model has none or does not name it.

    Args:
        model: A model.
    """
    return _named_by(model, "get_output_embeddings")


def _named_by(model: nn.Module, getter: str) -> nn.Module | None:
    try:
        found = getattr(model, getter, lambda: None)()
    except NotImplementedError:  # of a model with several towers
        return None
    return found if isinstance(found, nn.Module) else None


def _untied_heads(model: nn.Module) -> dict[str, LinearLayer]:
    """Return the output head by path, unless its weight is that of the token embeddings too."""
    head, embedding = output_head(model), token_embedding(model)
    if not isinstance(head, nn.Linear) or head.weight is getattr(embedding, "weight", None):
        return {}
    return {path: head for path, module in model.named_modules() if module is head}


def _raise_if_other_module(model: nn.Module, target: str) -> None:
    """Raise an error that names the module that a target stands for, if there is one."""
    for path, module in model.named_modules():
        if f".{path}".endswith(f".{target}"):
            if path.split(".")[0] in head_modules(model):
                raise AdapterlabError(f"target {target!r} is {path}, a task head: train it with trained_too={target!r}")
            kind = type(module).__name__
            raise AdapterlabError(
                f"target {target!r} is a {kind} ({path}), which this method does not adapt{_packed_hint(model)}"
            )


def _packed_hint(model: nn.Module) -> str:
    """Return the end of an error message for a model whose quantizer replaced `nn.Linear`; empty for other models."""
    for path, module in model.named_modules():
        if hasattr(module, "qweight") or hasattr(module, "_packed_params"):
            return f"; {path} is a {type(module).__name__}, a packed quantized layer: load the model unquantized"
    return ""
