"""Load a causal language model with its tokenizer: the embedded one, a folder, or an id of the hub."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from adapterlab.errors import AdapterlabError

EMBEDDED = "embedded"


class Loaded(NamedTuple):
    """A model in float32 on the CPU, in evaluation mode, and its tokenizer."""

    model: nn.Module
    tokenizer: Any


def folder_of(source: str) -> Path:
    """The folder that `source` names; the package's own for `"embedded"`."""
    return Path(__file__).parent / "base" if source == EMBEDDED else Path(source)


def load_causal(source: str = EMBEDDED) -> Loaded:
    """The model and tokenizer that `source` names; from safetensors only.

    Raises `AdapterlabError` where the folder is missing, damaged, or holds only pickled weights.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    folder = folder_of(source)
    local = folder.exists()
    if local and not any(folder.glob("*.safetensors")):
        raise AdapterlabError(
            f"{folder} holds no .safetensors weights, and no other kind is loaded: save the model anew"
        )
    logging.disable_progress_bar()
    try:
        where = str(folder) if local else source
        model = AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32, use_safetensors=True)
        tokenizer = AutoTokenizer.from_pretrained(where)
    except Exception as error:  # transformers raises many kinds for the same mistakes
        first = str(error).strip().split("\n")[0]
        kept = "; the files were left as they are" if local else ""
        raise AdapterlabError(f"cannot load the model {source!r}: {first}{kept}") from error
    return Loaded(model.eval(), tokenizer)


@cache
def fingerprint(source: str = EMBEDDED) -> str:
    """A hash of the weights: the id itself for a model that is not a local folder."""
    folder = folder_of(source)
    if not folder.exists():
        return source
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted([*folder.glob("*.safetensors"), folder / "config.json", folder / "tokenizer.json"]):
        if file.exists():
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
