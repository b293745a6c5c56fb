"""Save models and data that are in memory to files that worker processes can load.

Files are named by a hash of their content, so equal inputs have equal trials, and a study can be resumed.

>>> from tempfile import mkdtemp
>>> save_rows([{"prompt": "2 + 2 = ", "completion": "4"}], Path(mkdtemp())).rpartition(".")[2]
'parquet'
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd
import torch
from torch import nn

from adapterlab.errors import AdapterlabError

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, PreTrainedTokenizerBase

Rows: TypeAlias = "str | Path | Sequence[Mapping[str, Any]] | pd.DataFrame | Any"
"""A file or folder, a list of rows, a DataFrame, or a `datasets.Dataset`."""
Processor: TypeAlias = "PreTrainedTokenizerBase | BaseImageProcessor"
"""A tokenizer or an image processor."""


def save_model(model: str | Path | nn.Module, tokenizer: Processor | None, folder: Path) -> str:
    """Return the name of a model; save the model first if it is in memory.

    Args:
        model: A folder, a hub id, or a model of transformers in memory.
        tokenizer: Tokenizer (or image processor) of a model in memory; not used otherwise.
        folder: Where a model in memory is saved, as safetensors.

    Raises:
        AdapterlabError: If a model in memory comes without a tokenizer, has adapters attached, or cannot be saved.
    """
    if not isinstance(model, nn.Module):
        return str(model)
    if tokenizer is None:
        raise AdapterlabError(
            "a model in memory needs its tokenizer: give tokenizer=AutoTokenizer.from_pretrained(...)"
        )
    if not hasattr(model, "save_pretrained"):
        raise AdapterlabError(f"a {type(model).__name__} cannot be saved: give a model of transformers, or a folder")
    digest = hashlib.blake2b(str(model.config).encode(), digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        if "adapterlab" in name:
            raise AdapterlabError("the model has an adapter attached: detach it first")
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    target = folder / f"model-{digest.hexdigest()}"
    if not target.is_dir():
        partial = Path(mkdtemp(prefix=".model-", dir=_made(folder)))
        try:
            save: Callable[[Path], object] = model.save_pretrained  # type: ignore[assignment]
            save(partial)
            tokenizer.save_pretrained(partial)
        except Exception as error:
            shutil.rmtree(partial, ignore_errors=True)
            raise AdapterlabError(f"the model cannot be saved to {folder}: {error}") from error
        partial.replace(target)
    return str(target.resolve())


def save_rows(rows: Rows, folder: Path) -> str:
    """Return the path of rows; save them as Parquet first if they are in memory.

    Args:
        rows: A file or folder, a list of rows, a DataFrame, or a `datasets.Dataset`.
        folder: Where rows in memory are saved.

    Raises:
        AdapterlabError: If the rows are none of these, are empty, or cannot be written.
    """
    if isinstance(rows, str | Path):
        return str(rows)
    if hasattr(rows, "to_pandas"):
        frame = rows.to_pandas()
    elif isinstance(rows, pd.DataFrame):
        frame = rows
    elif isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
        frame = pd.DataFrame(list(rows))
    else:
        raise AdapterlabError(
            f"a {type(rows).__name__} is not data: give a file, a list of rows as dictionaries, a DataFrame or a Dataset"
        )
    if frame.empty:
        raise AdapterlabError("there are no rows: give at least one")
    partial = _made(folder) / f".rows-{os.getpid()}.parquet"
    try:
        frame.to_parquet(partial, index=False)
    except Exception as error:
        partial.unlink(missing_ok=True)
        raise AdapterlabError(f"the rows cannot be written as Parquet: {error}") from error
    target = folder / f"rows-{hashlib.blake2b(partial.read_bytes(), digest_size=8).hexdigest()}.parquet"
    partial.replace(target)
    return str(target.resolve())


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
