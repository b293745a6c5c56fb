"""Cache of singular value decompositions, in memory and on disk, shared by all methods that start from one.

Entries are keyed by a hash of the weight's bytes, so a copy of the model, another process or another method computes
nothing again. `svd_files` writes the files, and checks them when it reads them. The signs of the singular vectors are
fixed (the entry of largest magnitude in each column of `u` is positive), so that two computations agree.

>>> cache = FactorCache()
>>> weight = torch.arange(6.0).reshape(3, 2)
>>> u, s, vt = cache(weight, 1)
>>> u.shape, s.shape, vt.shape
(torch.Size([3, 1]), torch.Size([1]), torch.Size([1, 2]))
>>> _ = cache(weight.clone())
>>> cache.computed
1
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import nullcontext
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from adapterlab.adapters.context import Factors
from adapterlab.files import cache_folder
from adapterlab.surgery.init.svd_files import read, write
from adapterlab.surgery.init.threads import LARGE, one_thread

OVERSAMPLED = 10
"""Number of directions beyond the rank that a randomized decomposition probes."""


ALGORITHM = 2
"""Version of the algorithms of this module; entries of other versions are not read."""


@cache
def default_factors() -> FactorCache:
    """Return the cache of this process, which keeps its files in `cache_folder()`."""
    return FactorCache(cache_folder() / "factors")


class FactorCache:
    """Singular value decompositions by the content of the weight.

    Args:
        folder: Folder of the files; None to cache in memory alone.
        entries: Decompositions to hold in memory; the oldest is dropped first.
    """

    def __init__(self, folder: Path | None = None, entries: int = 512) -> None:
        self.folder, self.entries = folder, entries
        self.computed = 0
        """Number of decompositions that were in neither memory nor files."""
        self._memory: dict[str, Factors] = {}
        self._lock = threading.Lock()

    def __call__(
        self, weight: Float[Tensor, "*heads out in"], rank: int | None = None, iterations: int | None = None
    ) -> Factors:
        """Return the leading singular triplets of a weight, or of each of several stacked weights.

        Args:
            weight: One weight `(out, in)`, or several `(heads, out, in)`, which share one entry of the cache. On the meta
                device the result has shapes and no values.
            rank: Number of triplets; all of them if None.
            iterations: Power iterations of a randomized decomposition; None for a full one. A full one that is cached is not
                taken in place of a randomized one, since the result would depend on what filled the cache before.

        Returns:
            The triplets on the weight's device, in its dtype, or float32 if that has fewer bits.
        """
        *heads, rows, columns = weight.shape
        full = min(rows, columns)
        k = full if rank is None else min(rank, full)
        weight = weight.detach()
        if weight.dtype not in (torch.float32, torch.float64):
            weight = weight.float()
        if weight.is_meta:
            shapes = (*heads, rows, k), (*heads, k), (*heads, k, columns)
            return Factors(*(weight.new_empty(shape) for shape in shapes))
        randomized = iterations is not None and k < full
        key = f"{_content(weight)}-{k}-{iterations}" if randomized else _content(weight)
        factors = self._lookup(key, weight, k if randomized else full)
        if factors is None:
            factors = _randomized(weight, k, iterations or 0) if randomized else _decompose(weight)
            self.computed += 1
            self._write(key, factors)
            self._remember(key, factors)
        u, s, vt = (part.to(weight.device) for part in factors)
        return Factors(u[..., :k], s[..., :k], vt[..., :k, :])

    def _lookup(self, key: str, weight: Tensor, count: int) -> Factors | None:
        factors = self._memory.get(key)
        if factors is None and self.folder and (factors := read(self.folder, key, weight, count)) is not None:
            self._remember(key, factors)
        return factors

    def _remember(self, key: str, factors: Factors) -> None:
        with self._lock:
            self._memory[key] = factors
            while len(self._memory) > self.entries:
                self._memory.pop(next(iter(self._memory)))

    def _write(self, key: str, factors: Factors) -> None:
        if self.folder:
            write(self.folder, key, factors)


def _content(weight: Tensor) -> str:
    data = weight.cpu().contiguous()
    head = f"{ALGORITHM} {tuple(data.shape)}{data.dtype}".encode()
    return hashlib.blake2b(data.view(torch.uint8).numpy().tobytes(), digest_size=20, key=head[:64]).hexdigest()


def _decompose(weight: Float[Tensor, "*heads out in"]) -> Factors:
    with one_thread() if min(weight.shape[-2:]) < LARGE else nullcontext():
        return _with_fixed_signs(*torch.linalg.svd(weight, full_matrices=False))


def _randomized(weight: Float[Tensor, "*heads out in"], rank: int, iterations: int) -> Factors:
    """The range finder of Halko, Martinsson and Tropp (2011), algorithms 4.4 and 5.1, with a fixed probe."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = weight.shape[-2:]
    width = min(rank + OVERSAMPLED, rows, columns)
    probe = torch.randn(columns, width, generator=generator, dtype=weight.dtype).to(weight.device)
    basis = torch.linalg.qr(weight @ probe)[0]
    for _ in range(iterations):
        basis = torch.linalg.qr(weight.mT @ basis)[0]
        basis = torch.linalg.qr(weight @ basis)[0]
    u, s, vt = torch.linalg.svd(basis.mT @ weight, full_matrices=False)
    return _with_fixed_signs((basis @ u)[..., :rank], s[..., :rank], vt[..., :rank, :])


def _with_fixed_signs(
    u: Float[Tensor, "*heads out k"], s: Float[Tensor, "*heads k"], vt: Float[Tensor, "*heads k in"]
) -> Factors:
    largest = u.abs().argmax(-2, keepdim=True)
    sign = u.gather(-2, largest).sign()
    return Factors(u * sign, s, vt * sign.mT)
