"""Save models and data that are in memory to files that worker processes can load.

Files are named by a hash of their content, so equal inputs have equal trials, and a study can be resumed.

>>> from tempfile import mkdtemp
>>> save_rows([{"prompt": "2 + 2 = ", "completion": "4"}], Path(mkdtemp())).rpartition(".")[2]
'parquet'
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd
import pyarrow
import pyarrow.parquet
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
        raise AdapterlabError(f"{type(model).__name__} cannot be saved: give a model of transformers, or a folder")
    weights = model.state_dict()
    if any("adapterlab" in name for name in weights):
        raise AdapterlabError("the model has an adapter attached: detach it first")
    if hasattr(model, "peft_config"):
        raise AdapterlabError(
            "the model has an adapter of PEFT attached: merge it (merge_and_unload) or unload it first"
        )
    partial = Path(mkdtemp(prefix=".model-", dir=_made(folder)))
    try:
        tokenizer.save_pretrained(partial)
        digest = hashlib.blake2b(_settings_of(model).encode(), digest_size=8)
        for file in sorted(partial.iterdir()):
            digest.update(file.name.encode() + _content_of(file))
        for name, tensor in sorted(weights.items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        target = folder / f"model-{digest.hexdigest()}"
        if not target.is_dir():
            save: Callable[[Path], object] = model.save_pretrained  # type: ignore[assignment]
            save(partial)
            partial.replace(target)
    except Exception as error:
        raise AdapterlabError(f"the model cannot be saved to {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
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
    try:
        table = _table_of(rows)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise AdapterlabError(f"the rows cannot be written as Parquet: {error}") from error
    if not (table.num_rows and table.num_columns):
        raise AdapterlabError("there are no rows: give at least one")
    digest = hashlib.blake2b(digest_size=8)
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            digest.update(json.dumps(row, sort_keys=True, default=repr).encode())
    target = _made(folder) / f"rows-{digest.hexdigest()}.parquet"
    if not target.is_file():
        partial = folder / f".rows-{os.getpid()}.parquet"
        try:
            pyarrow.parquet.write_table(table, partial)
            partial.replace(target)
        except (pyarrow.ArrowException, OSError) as error:
            partial.unlink(missing_ok=True)
            raise AdapterlabError(f"the rows cannot be written to {folder}: {error}") from error
    return str(target.resolve())


def _settings_of(model: nn.Module) -> str:
    """Return the model's configuration as JSON, without what does not change the model: its origin and a version."""
    config: dict[str, Any] = model.config.to_dict()  # type: ignore[union-attr, operator]
    known = {key: value for key, value in config.items() if key not in ("_name_or_path", "transformers_version")}
    return json.dumps(known, sort_keys=True, default=str)


def _content_of(file: Path) -> bytes:
    """Return a tokenizer's file, without what using or moving the tokenizer changes."""
    if file.suffix != ".json":
        return file.read_bytes()
    content = json.loads(file.read_text("utf-8"))
    if isinstance(content, dict):
        for key in ("padding", "truncation", "is_local", "local_files_only", "name_or_path"):
            content.pop(key, None)
    return json.dumps(content, sort_keys=True).encode()


def _table_of(rows: Any) -> pyarrow.Table:
    """Return rows as an Arrow table; class numbers of a `datasets.Dataset` become the names of the classes."""
    if isinstance(rows, Sequence) and all(isinstance(row, Mapping) for row in rows):
        keys = dict.fromkeys(key for row in rows for key in row)
        return pyarrow.table({key: [row.get(key) for row in rows] for key in keys})
    if isinstance(rows, pd.DataFrame):
        frame = rows
    elif hasattr(rows, "to_pandas"):
        frame = rows.to_pandas()
    else:
        raise AdapterlabError(
            f"a {type(rows).__name__} is not data: give a file, a list of rows as dictionaries, a DataFrame or a Dataset"
        )
    table = pyarrow.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    for key, feature in (getattr(rows, "features", None) or {}).items():
        if hasattr(feature, "int2str"):
            names = [None if number is None else feature.int2str(int(number)) for number in table[key].to_pylist()]
            table = table.set_column(table.column_names.index(key), key, pyarrow.array(names))
    return table


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AdapterlabError(f"{folder} cannot be written ({error.strerror}): give another folder as out=") from error
    return folder
