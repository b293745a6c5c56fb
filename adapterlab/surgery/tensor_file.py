"""A safetensors file that is read tensor by tensor, each checked before memory is allocated for it.

>>> from tempfile import TemporaryDirectory
>>> from safetensors.torch import save_file
>>> with TemporaryDirectory() as folder:
...     path = Path(folder) / "some.safetensors"
...     save_file({"a": torch.ones(2)}, path)
...     file = TensorFile(path)
...     file.read("a", torch.empty(2)), file.shape("b"), file.unread()
(tensor([1., 1.]), None, [])
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from adapterlab.errors import AdapterlabError

INTEGERS = {"I64", "I32", "I16", "I8", "U8"}
"""Stored dtypes of indices."""
NUMBERS = {"F64", "F32", "F16", "BF16"}
"""Stored dtypes of all other tensors."""
BASE_FINGERPRINT = "base.fingerprint"
"""Name of the base's fingerprints as bytes, in checkpoints of Trainer: it is not a tensor of the adapter."""


class TensorFile:
    """A safetensors file whose tensors are read one at a time.

    Args:
        path: The file.

    Raises:
        AdapterlabError: The file is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: set[str] = set()
        if not path.is_file():
            raise AdapterlabError(f"{path} does not exist: is {path.parent} a folder that save() wrote?")
        try:
            file: Any = safe_open(path, "pt")
            self._file = file
            self._names = set(file.keys()) - {BASE_FINGERPRINT}
        except Exception as error:  # also built-in ones, such as for a name that is not UTF-8
            raise self._damaged(error) from error

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor, or None if the file does not hold it.

        Args:
            name: Name of the tensor.
        """
        return tuple(self._file.get_slice(name).get_shape()) if name in self._names else None

    def read(self, name: str, like: Tensor) -> Tensor:
        """Return a tensor, on the CPU and in the dtype of the file.

        Args:
            name: Name of the tensor.
            like: A tensor with the expected shape, and whose dtype is an integer for indices.

        Raises:
            AdapterlabError: The tensor is missing, has another shape, is not finite, or is of another kind.
        """
        found = self.shape(name)
        if found != tuple(like.shape):
            raise AdapterlabError(
                f"{self.path} was made for another model: at {name} it holds {found or 'nothing'}, this model needs "
                f"{tuple(like.shape)}"
            )
        kinds = NUMBERS if like.is_floating_point() else INTEGERS
        if (dtype := self._file.get_slice(name).get_dtype()) not in kinds:
            raise AdapterlabError(f"{self.path} is damaged: {name} holds {dtype}, and one of {sorted(kinds)} is needed")
        try:
            tensor: Tensor = self._file.get_tensor(name)
        except Exception as error:
            raise self._damaged(error) from error
        if like.is_floating_point() and not torch.isfinite(tensor.to(like.dtype)).all():
            raise AdapterlabError(
                f"{self.path}: {name} holds NaN or infinity: train the adapter again, or load an earlier one"
            )
        self._read.add(name)
        return tensor

    def unread(self) -> Sequence[str]:
        """Return the names of the tensors that were not read, in alphabetical order."""
        return sorted(self._names - self._read)

    @cached_property
    def names(self) -> Sequence[str]:
        """Names of all tensors, in alphabetical order."""
        return sorted(self._names)

    def _damaged(self, error: Exception) -> AdapterlabError:
        return AdapterlabError(f"{self.path} is damaged ({error}); the file was left as it is")
