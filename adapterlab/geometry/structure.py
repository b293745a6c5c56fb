"""The linear layers of a checkpoint, by the structure of its model class, which is built without its weights.

>>> from adapterlab.models.fingerprint import folder_of
>>> structure = structure_of(Checkpoint(folder_of("embedded")))
>>> len(structure.layers), structure.keys["lm_head.weight"]
(28, 'model.embed_tokens.weight')
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.context import Role
from adapterlab.geometry.checkpoint import Checkpoint
from adapterlab.models.loading import quiet
from adapterlab.surgery.model.linear_layers import linears, output_head, token_embedding
from adapterlab.surgery.model.roles import role_of

NO_LAYERS = ("embed", "wte", "wpe", "lm_head", "score", "classifier", "shared", "norm", "rotary")
"""Parts of the names of matrices that are no linear layers of a block."""


@dataclass(frozen=True)
class Structure:
    """Places of the tensors of a checkpoint in its model."""

    layers: Mapping[str, str]
    """Names of the weights of linear layers in the checkpoint, by path of the layer."""
    transposed: Collection[str]
    """Paths of layers that store their weight as `(in, out)`, as GPT-2's do."""
    keys: Mapping[str, str]
    """Names in the checkpoint of the model's parameters, by path. Tied parameters share one name."""
    missing: Collection[str]
    """Parameters of the model that the checkpoint lacks."""
    resizable: Collection[str]
    """Names in the checkpoint of token embeddings and output heads, which may have another number of tokens."""
    head: str = ""
    """Name in the checkpoint of the weight of the output head; empty if it has none."""
    embedding: str = ""
    """Name in the checkpoint of the token embeddings. It is that of the head too, unless the checkpoint holds both."""
    tied: bool = False
    """True if the model ties its output head to its token embeddings."""
    note: str = ""
    """Remark for the reader; empty if the model class says it all."""


def structure_of(checkpoint: Checkpoint) -> Structure:
    """Return the structure of a checkpoint's model.

    The class that `config.json` names is built on the meta device, without memory for its weights. Its linear layers are
    those that adapters are attached to, so that output heads are none of them. Without a class that can be built, layers
    are found by the names of the tensors, and a note says so.

    Args:
        checkpoint: The checkpoint.

    Raises:
        AdapterlabError: The checkpoint's `config.json` is damaged.
    """
    if not checkpoint.config:
        return _by_names(checkpoint, "it has no config.json")
    try:
        model = _built(checkpoint)
    except Exception as error:  # a configuration of an unknown or newer class raises many types
        first = str(error).strip().split("\n")[0][:200]
        return _by_names(checkpoint, f"its model class cannot be built ({type(error).__name__}: {first})")
    return _by_model(checkpoint, model)


def _built(checkpoint: Checkpoint) -> nn.Module:
    import transformers
    from transformers import AutoConfig, AutoModel

    with quiet(), torch.device("meta"):
        config = AutoConfig.from_pretrained(checkpoint.folder, trust_remote_code=False)
        named: Any = getattr(transformers, (config.architectures or [""])[0], None)
        is_model = isinstance(named, type) and issubclass(named, transformers.PreTrainedModel)
        model: nn.Module = named(config) if is_model else AutoModel.from_config(config)
    return model


def _by_model(checkpoint: Checkpoint, model: nn.Module) -> Structure:
    places: dict[int, list[str]] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        places.setdefault(id(parameter), []).append(path)
    keys, missing = dict[str, str](), []
    for paths in places.values():
        found = {path: _key(path, getattr(model, "base_model_prefix", ""), checkpoint.shapes) for path in paths}
        if first := next(filter(None, found.values()), ""):
            keys |= {path: key or first for path, key in found.items()}
        else:
            missing.append(paths[0])
    own = linears(model)
    layers = {path: keys[f"{path}.weight"] for path in own if f"{path}.weight" in keys}
    transposed = {path for path, layer in own.items() if isinstance(layer, Conv1D)}
    unknown = {key.removesuffix(".weight"): key for key in _layers_by_name(checkpoint, set(keys.values()))}
    # Experts, say, which the class keeps in one tensor and the checkpoint in many.
    more = {path: key for path, key in unknown.items() if role_of(path) is not Role.OTHER}
    note = ""
    if more:
        note = (
            f"{checkpoint.name} holds {len(more)} matrices that its model class keeps in another form, such as "
            f"{next(iter(more))}: they were taken for linear layers by their names."
        )
        missing = [path for path in missing if path.removesuffix(".weight") in own]
    head, embedding = _vocabulary(model)
    names = [next((keys[path] for path in places.get(id(p), ()) if path in keys), "") for p in (embedding, head)]
    tied_heads = [path for path in places.get(id(head), ()) if keys.get(path, names[0]) != names[0]]
    tied = head is not None and head is embedding
    head_key = keys[tied_heads[0]] if tied and tied_heads else names[1]
    resizable = {*names, head_key} - {""}
    return Structure(layers | more, transposed, keys, missing, resizable, head_key, names[0], tied, note)


def _vocabulary(model: nn.Module) -> tuple[Tensor | None, Tensor | None]:
    """Return the weights of the output head and of the token embeddings."""
    return getattr(output_head(model), "weight", None), getattr(token_embedding(model), "weight", None)


def _key(path: str, prefix: str, names: Collection[str]) -> str:
    """Return the name of a parameter in a checkpoint, which may lack the base model's prefix, or have it in addition."""
    forms = (path, f"{prefix}.{path}", path.removeprefix(f"{prefix}."))
    return next((form for form in forms if form in names), "")


def _layers_by_name(checkpoint: Checkpoint, known: Collection[str] = ()) -> list[str]:
    return [
        key
        for key, shape in checkpoint.shapes.items()
        if key not in known
        and len(shape) == 2
        and key.endswith(".weight")
        and checkpoint.is_number(key)
        and not any(part in key.lower() for part in NO_LAYERS)
    ]


def _by_names(checkpoint: Checkpoint, why: str) -> Structure:
    found = _layers_by_name(checkpoint)
    note = f"The linear layers of {checkpoint.name} were found by the names of its tensors, since {why}."
    resizable = {key for key in checkpoint.shapes if "embed" in key or "lm_head" in key}
    layers = {key.removesuffix(".weight"): key for key in found}
    return Structure(layers, set(), {key: key for key in checkpoint.shapes}, (), resizable, note=note)
