"""Find the linear layers of a model, by structure and by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TypeAlias

from torch import nn
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.context import Role
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.surgery.model.new_heads import new_head_modules
from adapterlab.surgery.model.submodules import in_adapter
from adapterlab.surgery.model.trained_modules import head_modules

LinearLayer: TypeAlias = nn.Linear | Conv1D
"""A linear layer; `Conv1D` is GPT-2's, which stores its weight transposed."""
Targets: TypeAlias = str | Sequence[str]
"""Linear layers to adapt: `"all-linear"`, or one or more roles, endings of a path, or patterns with `*`."""

# Names that Hugging Face decoders and encoders give to the linear layers of a block.
_ROLES = {
    Role.QUERY: {"q_proj", "query", "q_lin", "wq", "q"},
    Role.KEY: {"k_proj", "key", "k_lin", "wk", "k"},
    Role.VALUE: {"v_proj", "value", "v_lin", "wv", "v"},
    Role.OUTPUT: {
        "o_proj",
        "out_proj",
        "out_lin",
        "wo",
        "o",
        "attn.c_proj",
        "attention.output.dense",
        "self_attn.dense",
        "attention.dense",
        "self_attention.dense",
    },
    Role.GATE: {"gate_proj", "w1"},
    Role.UP: {"up_proj", "w3", "fc1", "c_fc", "dense_h_to_4h", "intermediate.dense", "lin1", "gate_up_proj"},
    Role.DOWN: {"down_proj", "w2", "fc2", "mlp.c_proj", "dense_4h_to_h", "output.dense", "lin2"},
}


def role_of(path: str) -> Role:
    """Return the role of a linear layer in its block, judged by its name.

    Args:
        path: Dotted path of the layer. The longest known ending of it decides.

    Returns:
        The role; `Role.OTHER` for an unknown name.

    >>> role_of("model.layers.0.self_attn.q_proj"), role_of("h.0.attn.c_proj"), role_of("h.0.mlp.c_proj")
    (<Role.QUERY: 'query'>, <Role.OUTPUT: 'output'>, <Role.DOWN: 'down'>)
    """
    endings = [(len(name), role) for role, names in _ROLES.items() for name in names if f".{path}".endswith(f".{name}")]
    return max(endings)[1] if endings else Role.OTHER


def linears(model: nn.Module) -> dict[str, LinearLayer]:
    """Return the linear layers of a model by path, without the output head and task heads.

    Args:
        model: A model; adapters that are already attached are skipped.

    >>> list(linears(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))))
    ['0', '2']
    """
    head, new, task_heads = _head(model), new_head_modules(model), tuple(head_modules(model))
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and module is not head
        and path not in new
        and path.split(".")[0] not in task_heads
        and not in_adapter(path)
    }


def select(model: nn.Module, targets: Targets) -> dict[str, LinearLayer]:
    """Return the linear layers that `targets` names, by path.

    Args:
        model: The model to search.
        targets: `"all-linear"`, or one or more of: a role (`"query"`, `"down"`), an ending of a path (`"q_proj"`), or a
            pattern (`"model.layers.0.*"`).

    Raises:
        UnknownNameError: A target matches no layer.
        AdapterlabError: The model has no linear layer, or a target names another kind of layer or the output head.

    >>> list(select(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)), "1"))
    ['1']
    """
    found = linears(model)
    if targets == "all-linear":
        if not found:
            raise AdapterlabError(f"{type(model).__name__} has no linear layer to adapt{_packed_hint(model)}")
        return found
    chosen: set[str] = set()
    for target in [targets] if isinstance(targets, str) else targets:
        hits = {
            path
            for path in found
            if role_of(path) == target or f".{path}".endswith(f".{target}") or fnmatch.fnmatchcase(path, target)
        }
        if not hits:
            _raise_if_not_linear(model, target)
            names = {path.rsplit(".", 1)[-1] for path in found} | {role_of(path).value for path in found}
            raise UnknownNameError("target", target, names, where=type(model).__name__)
        chosen |= hits
    return {path: module for path, module in found.items() if path in chosen}


def _head(model: nn.Module) -> object:
    return getattr(model, "get_output_embeddings", lambda: None)()


def _raise_if_not_linear(model: nn.Module, target: str) -> None:
    """Raise an error that explains why the module named by `target` cannot be adapted, if there is one."""
    for path, module in model.named_modules():
        if f".{path}".endswith(f".{target}"):
            if path.split(".")[0] in head_modules(model):
                raise AdapterlabError(f"target {target!r} is {path}, a task head: train it with trained_too={target!r}")
            if module is _head(model):
                embedding = getattr(model, "get_input_embeddings", lambda: None)()
                tied = embedding is not None and getattr(module, "weight", None) is embedding.weight
                why = "whose weight is the embedding's too (tied)" if tied else "which makes the logits"
                raise AdapterlabError(
                    f"target {target!r} is {path}, {why}: adapt other layers, or its rows with trainable_tokens"
                )
            kind = type(module).__name__
            raise AdapterlabError(
                f"target {target!r} is a {kind} ({path}): this method adapts linear layers{_packed_hint(model)}"
            )


def _packed_hint(model: nn.Module) -> str:
    """Return the end of an error message for a model whose quantizer replaced `nn.Linear`; empty for other models."""
    for path, module in model.named_modules():
        if hasattr(module, "qweight") or hasattr(module, "_packed_params"):
            return f"; {path} is a {type(module).__name__}, a packed quantized layer: load the model unquantized"
    return ""
