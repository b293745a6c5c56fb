"""Weights of a model before it was quantized.

>>> model = nn.Sequential(nn.Linear(2, 1))
>>> original_weight(model, "0").shape
torch.Size([1, 2])
"""

from __future__ import annotations

import json
from pathlib import Path

from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.weights import weight_of

INDEX = "model.safetensors.index.json"
"""File of a model in several files, with the file of each tensor."""
WHOLE = "model.safetensors"
"""File of a model in one file."""


def original_weight(source: nn.Module | str | Path, path: str) -> Float[Tensor, "out in"]:
    """Return the weight of one layer of the model before quantization.

    Args:
        source: The model, or a folder that `save_pretrained` wrote. Of a folder one tensor is read.
        path: Path of the layer in the model.

    Raises:
        AdapterlabError: The source has no such layer, or the folder holds no readable safetensors.
    """
    if isinstance(source, nn.Module):
        try:
            layer = source.get_submodule(path)
        except AttributeError:
            layer = None
        if not isinstance(layer, nn.Linear | Conv1D):
            raise AdapterlabError(f"original: the {type(source).__name__} has no linear layer {path}")
        return weight_of(layer).detach()
    folder = Path(source)
    try:
        name, file = _entry(folder, f"{path}.weight")
        with safe_open(folder / file, "pt") as tensors:
            weight: Tensor = tensors.get_tensor(name)
    except (OSError, SafetensorError, json.JSONDecodeError, KeyError) as error:
        raise AdapterlabError(f"original: {folder} holds no weight of {path} as safetensors ({error})") from None
    return weight


def _entry(folder: Path, name: str) -> tuple[str, str]:
    """Return the name of a tensor in a folder and its file; a folder of a bare base model lacks the first part of names."""
    if (folder / INDEX).exists():
        files: dict[str, str] = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
    else:
        with safe_open(folder / WHOLE, "pt") as tensors:
            files = dict.fromkeys(tensors.keys(), WHOLE)
    found = name if name in files else name.partition(".")[2]
    return found, files[found]
