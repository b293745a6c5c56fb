"""Files of the cache of decompositions: written for the owner alone, and checked when they are read.

A file is used only if its checksum is right and its factors decompose the weight. Otherwise a warning names it, and the
caller computes the factors again.

>>> from tempfile import mkdtemp
>>> folder, weight = Path(mkdtemp()), torch.eye(2)
>>> write(folder, "key", Factors(*torch.linalg.svd(weight)))
>>> read(folder, "key", weight, 2).s
tensor([1., 1.])
"""

from __future__ import annotations

import hashlib
import os
import stat
import warnings
from contextlib import suppress
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load, save
from torch import Tensor

from adapterlab.adapters.context import Factors
from adapterlab.files import writing

CHECKSUM = "checksum"
"""Name in a file of the hash of the factors."""
HEADER = 4096
"""Most bytes of a file beside the numbers."""
TOLERANCE = 1e-3
"""Largest relative residual of a decomposition in float32; that of float64 is smaller too."""


def write(folder: Path, key: str, factors: Factors) -> None:
    """Write factors to a file that the owner alone can read; nothing is written to a full or read-only disk.

    Args:
        folder: The folder; created if it does not exist.
        key: Name of the entry.
        factors: The factors.
    """
    tensors = {name: part.cpu().contiguous() for name, part in factors._asdict().items()}
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _own(folder):
            return
        folder.chmod(0o700)
        with writing(_path(folder, key), 0o600) as partial:
            partial.write_bytes(save(tensors | {CHECKSUM: _checksum(key, Factors(**tensors))}))


def read(folder: Path, key: str, weight: Float[Tensor, "*heads out in"], count: int) -> Factors | None:
    """Return the factors in a file, or None if there is no such file or it is damaged, with a warning.

    Args:
        folder: The folder.
        key: Name of the entry.
        weight: The weight that the factors decompose.
        count: Number of singular triplets of each matrix.
    """
    path = _path(folder, key)
    *heads, rows, columns = weight.shape
    shapes = {"u": (*heads, rows, count), "s": (*heads, count), "vt": (*heads, count, columns)}
    size = sum(torch.Size(shape).numel() for shape in shapes.values()) * weight.itemsize
    try:
        if not folder.is_dir() or not _own(folder):
            return None
        content = _content(path, size + HEADER)
    except FileNotFoundError:
        return None
    except OSError as error:
        _warn(path, str(error.strerror))
        return None
    try:
        tensors = load(content)
        checksum = tensors.pop(CHECKSUM)
        factors = Factors(**tensors)
    except Exception as error:  # the bytes can be anything
        _warn(path, " ".join(str(error).split())[:100])
        return None
    if problem := _problem(key, factors, checksum, weight, shapes):
        _warn(path, problem)
        return None
    return factors


def _path(folder: Path, key: str) -> Path:
    return folder / f"{key}.safetensors"


def _own(folder: Path) -> bool:
    """Return True if the folder belongs to this user: others could plant files in theirs."""
    return os.geteuid() in (0, folder.stat().st_uid)


def _content(path: Path, most: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:  # noqa: PTH123
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            raise OSError(0, "it is not a file of the expected size")
        return file.read()


def _warn(path: Path, problem: str) -> None:
    warnings.warn(f"{path} is damaged ({problem}): the decomposition is computed again", stacklevel=6)


def _checksum(key: str, factors: Factors) -> Tensor:
    digest = hashlib.blake2b(key.encode(), digest_size=20)
    for part in factors:
        digest.update(f"{tuple(part.shape)} {part.dtype}".encode())
        digest.update(part.contiguous().view(torch.uint8).numpy().tobytes())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)


def _problem(
    key: str, factors: Factors, checksum: Tensor, weight: Tensor, shapes: dict[str, tuple[int, ...]]
) -> str | None:
    """Return the reason why factors cannot be used, or None."""
    if any(tuple(part.shape) != shapes[name] for name, part in factors._asdict().items()):
        return "the shapes are those of another weight"
    if any(part.dtype != weight.dtype for part in factors):
        return "the dtype is that of another weight"
    if not torch.equal(checksum, _checksum(key, factors)):
        return "the checksum is wrong"
    u, s, vt = (part.to(weight.device) for part in factors)
    if not all(bool(torch.isfinite(part).all()) for part in (u, s, vt)) or bool((s[..., 1:] > s[..., :-1]).any()):
        return "the numbers are not finite and in order"
    # Probes with a fixed generator: each residual is zero for orthonormal factors with U^T W = S V^T, up to rounding.
    generator = torch.Generator().manual_seed(0)
    columns, count = weight.shape[-1], s.shape[-1]
    x, z = (torch.randn(n, 2, generator=generator, dtype=weight.dtype).to(weight.device) for n in (columns, count))
    left, right, top = u.mT @ (weight @ x), s[..., None] * (vt @ x), s[..., :1, None]
    residuals = (left - right, top * (u.mT @ (u @ z) - z), top * (vt @ (vt.mT @ z) - z))
    largest = max(float(r.abs().max()) for r in residuals)
    if largest > TOLERANCE * max(float((top * z).abs().max()), float(left.abs().max()), torch.finfo(weight.dtype).tiny):
        return "the factors do not decompose the weight"
    return None
