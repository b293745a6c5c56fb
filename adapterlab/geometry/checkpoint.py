"""A model's folder of safetensors, read one tensor at a time.

>>> from tempfile import mkdtemp
>>> from safetensors.torch import save_file
>>> folder = Path(mkdtemp())
>>> save_file({"up.weight": torch.ones(2, 3, dtype=torch.bfloat16)}, folder / "model.safetensors")
>>> checkpoint = Checkpoint(folder)
>>> checkpoint.shapes, checkpoint.read("up.weight").dtype
({'up.weight': (2, 3)}, torch.float32)
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from adapterlab.errors import AdapterlabError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
"""Files of a checkpoint in one piece, and of the list of a checkpoint's shards."""
NUMBERS = {"F64", "F32", "F16", "BF16"}
"""Stored dtypes of weights that are not quantized."""
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
CHUNK = 16 * 2**20
"""Entries of a tensor that are compared at once where no more than a norm is needed."""


class Checkpoint:
    """Tensors of a model's folder. A file is open only while a tensor is read, so no more than that stays in memory.

    Args:
        folder: A folder with `config.json`, and `model.safetensors` or shards with their index.
        name: Name of the model in messages; the folder if empty.

    Raises:
        AdapterlabError: The folder holds no safetensors, a shard is missing or damaged, or the weights are quantized.
    """

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder, self.name = folder, name or str(folder)
        self._files = _files_of(folder)
        self._refuse_quantized()
        self._place: dict[str, Path] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._dtypes: dict[str, str] = {}
        for file, wanted in self._files.items():
            with _opened(file) as stream:
                held = set(stream.keys())
                if missing := sorted((wanted or held) - held):
                    raise AdapterlabError(
                        f"{file} lacks {missing[0]}, which {folder / INDEX} names: fetch or save the model again"
                    )
                for key in sorted(wanted or held):
                    part = stream.get_slice(key)
                    self._place[key], self._dtypes[key] = file, part.get_dtype()
                    self._shapes[key] = tuple(part.get_shape())

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of the tensors by name."""
        return self._shapes

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of the weights."""
        return tuple(self._files)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """Content of `config.json`; empty if there is none.

        Raises:
            AdapterlabError: The file is damaged.
        """
        file = self.folder / "config.json"
        if not file.is_file():
            return {}
        try:
            found = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise AdapterlabError(f"{file} is damaged ({error}); the file was left as it is") from error
        if not isinstance(found, dict):
            raise AdapterlabError(f"{file} is damaged (it holds no object); the file was left as it is")
        return found

    def is_number(self, key: str) -> bool:
        """Return True if a tensor is stored as floating-point numbers.

        Args:
            key: Name of the tensor.
        """
        return self._dtypes[key] in NUMBERS

    def read(self, key: str) -> Tensor:
        """Return a tensor in float32, or in float64 if it is stored so.

        Args:
            key: Name of the tensor.

        Raises:
            AdapterlabError: The tensor is missing, quantized, or not finite, or its file is damaged.
        """
        return next(self.chunks(key, entries=None))

    def chunks(self, key: str, entries: int | None = CHUNK) -> Iterator[Tensor]:
        """Yield the rows of a tensor, some at a time, as `read` returns them.

        Args:
            key: Name of the tensor.
            entries: Numbers to yield at once, about; None for the whole tensor.

        Raises:
            AdapterlabError: As `read` does.
        """
        if key not in self._place:
            raise AdapterlabError(f"{self.name} lacks {key}: fetch or save the model again")
        file, shape = self._place[key], self._shapes[key]
        if not self.is_number(key):
            raise AdapterlabError(
                f"{key} in {file} is stored as {self._dtypes[key]}: geometry needs weights that are not quantized; give "
                "the model in float16, bfloat16 or float32"
            )
        rows = shape[0] if shape else 0
        step = rows if entries is None or not rows else max(1, entries // max(1, math.prod(shape) // rows))
        for start in range(0, max(1, rows), max(1, step)):
            with _opened(file) as stream:
                whole = not shape or step >= rows
                stored = stream.get_tensor(key) if whole else stream.get_slice(key)[start : start + step]
            kept = stored if stored.dtype == torch.float64 else stored.float()
            # A copy, so that the memory that is mapped to the file is given back.
            kept = kept.clone() if kept.data_ptr() == stored.data_ptr() else kept
            if not torch.isfinite(kept).all():
                raise AdapterlabError(
                    f"{key} in {file} holds NaN or infinity: give a checkpoint from before it diverged"
                )
            yield kept

    def _refuse_quantized(self) -> None:
        found = self.config.get("quantization_config")
        if found is None and not (self.folder / "hf_quant_config.json").is_file():
            return
        method = found.get("quant_method") if isinstance(found, dict) else None
        raise AdapterlabError(
            f"{self.name} is quantized ({method or 'quantization_config in its config.json'}): geometry compares plain "
            "weights; give the model before quantization, or save it dequantized"
        )


def _files_of(folder: Path) -> dict[Path, set[str] | None]:
    """Return the files of the weights, each with the tensors that the index names in it; None for all."""
    single, index = folder / SINGLE, folder / INDEX
    if single.is_file():
        return {single: None}
    if index.is_file():
        return dict(_shards_of(index))
    if found := sorted(folder.glob("*.safetensors")):
        return dict.fromkeys(found)
    if pickles := sorted(path.name for pattern in PICKLES for path in folder.glob(pattern)):
        raise AdapterlabError(
            f"{folder / pickles[0]} is a pickle, which can run code when read: save the model with save_pretrained, "
            "which writes safetensors"
        )
    if not folder.is_dir():
        raise AdapterlabError(f"there is no folder {folder}: give one that holds a model or an adapter")
    raise AdapterlabError(f"{folder} holds no .safetensors weights: give a model's folder, or that of an adapter")


def _shards_of(index: Path) -> dict[Path, set[str]]:
    """Return the tensors that an index names, by file."""
    shards: dict[Path, set[str]] = {}
    try:
        for key, file in json.loads(index.read_text("utf-8"))["weight_map"].items():
            if Path(file).name != file:
                raise ValueError(f"{file!r} is not the name of a file beside it")
            shards.setdefault(index.parent / file, set()).add(key)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AdapterlabError(f"{index} is damaged ({error!r}); the file was left as it is") from error
    if missing := [file for file in shards if not file.is_file()]:
        raise AdapterlabError(f"{missing[0]} does not exist, which {index} names: fetch or save the model again")
    return shards


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        stream: Any = safe_open(file, "pt")
    except Exception as error:  # also built-in ones, such as for a name that is not UTF-8
        raise AdapterlabError(f"{file} is damaged or cut off ({error}); the file was left as it is") from error
    with stream:
        yield stream
