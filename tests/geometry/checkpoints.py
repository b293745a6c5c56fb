"""Pairs of small checkpoints for tests."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.conftest import tiny_llama


def save_pair(folder: Path, model: torch.nn.Module | None = None, *, rank: int = 2, **settings) -> tuple[Path, Path]:
    """Save a model, and the same with a change of rank 2 in each weight of its first block's query and up projections."""
    model = tiny_llama() if model is None else model
    base, tuned = folder / "base", folder / "tuned"
    model.save_pretrained(base, **settings)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layers.0." in name and ("q_proj.weight" in name or "up_proj.weight" in name):
                left = torch.randn(parameter.shape[0], rank, generator=generator)
                right = torch.randn(rank, parameter.shape[1], generator=generator)
                parameter += 0.01 * left @ right
    model.save_pretrained(tuned, **settings)
    return base, tuned


def edit(folder: Path, **changes: torch.Tensor | None) -> None:
    """Replace tensors of a checkpoint in one file, or remove those that are None. Underscores pairs stand for dots."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for name, tensor in changes.items():
        key = name.replace("__", ".")
        if tensor is None:
            del tensors[key]
        else:
            tensors[key] = tensor
    save_file(tensors, file, {"format": "pt"})


def configure(folder: Path, **changes: object) -> None:
    """Change values of a checkpoint's config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
