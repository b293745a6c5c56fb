"""The linear layers of a model, by structure and by name."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import cast

from torch import nn
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.base import Role
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.surgery.model.new_heads import fresh_modules
from adapterlab.surgery.model.submodules import in_adapter

# The names that Hugging Face decoders and encoders use for the leaves of a block.
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
    """What the linear layer at this dotted path does, by the name it bears; the longest known ending decides."""
    endings = [(len(name), role) for role, names in _ROLES.items() for name in names if f".{path}".endswith(f".{name}")]
    return max(endings)[1] if endings else Role.OTHER


def linears(model: nn.Module) -> dict[str, nn.Module]:
    """Every linear layer (`nn.Linear`, GPT-2's `Conv1D`) by path, but for one that makes the logits or is fresh."""
    head, fresh = _head(model), fresh_modules(model)
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and module is not head and path not in fresh and not in_adapter(path)
    }


def select(model: nn.Module, targets: str | Sequence[str]) -> dict[str, nn.Module]:
    """The linear layers that `targets` names: `"all-linear"`, or roles, endings of a path, or patterns with `*`.

    Raises `UnknownNameError` for a target that matches none, `AdapterlabError` for one that names another kind of layer or
    the head of a model that ties it to the embedding.
    """
    found = linears(model)
    if targets == "all-linear":
        if not found:
            raise AdapterlabError(f"{type(model).__name__} has no linear layer to adapt{_packed(model)}")
        return found
    chosen: set[str] = set()
    for target in [targets] if isinstance(targets, str) else targets:
        hits = {
            path
            for path in found
            if role_of(path) == target or f".{path}".endswith(f".{target}") or fnmatch.fnmatchcase(path, target)
        }
        if not hits:
            _refuse(model, target)
            names = {path.rsplit(".", 1)[-1] for path in found} | {role_of(path).value for path in found}
            raise UnknownNameError("target", target, names, where=type(model).__name__)
        chosen |= hits
    return {path: module for path, module in found.items() if path in chosen}


def _head(model: nn.Module) -> nn.Module | None:
    return cast("nn.Module | None", getattr(model, "get_output_embeddings", lambda: None)())


def _refuse(model: nn.Module, target: str) -> None:
    """Say why what `target` names cannot be adapted, if it names anything."""
    for path, module in model.named_modules():
        if f".{path}".endswith(f".{target}"):
            if module is _head(model):
                embedding = getattr(model, "get_input_embeddings", lambda: None)()
                tied = embedding is not None and getattr(module, "weight", None) is embedding.weight
                why = "whose weight is the embedding's too (tied)" if tied else "which makes the logits"
                raise AdapterlabError(
                    f"target {target!r} is {path}, {why}: adapt other layers, or its rows with trainable_tokens"
                )
            kind = type(module).__name__
            raise AdapterlabError(
                f"target {target!r} is a {kind} ({path}): this method adapts linear layers{_packed(model)}"
            )


def _packed(model: nn.Module) -> str:
    """A hint where layers of a quantizer that are no `nn.Linear` are what the user means."""
    for path, module in model.named_modules():
        if hasattr(module, "qweight") or hasattr(module, "_packed_params"):
            return f"; {path} is a {type(module).__name__}, a packed quantized layer: load the model unquantized"
    return ""
