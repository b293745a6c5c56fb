"""One decomposition serves all: a weight's singular triplets from memory, from disk, or computed.

Keyed by a hash of the weight's bytes, so that a copy of the model, another process or the next method asks for nothing
that is known. Files are written atomically; the signs of the vectors are fixed (the entry of largest size in each column
of `u` is positive), so that two computations agree.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from adapterlab.adapters.context import Factors

OVERSAMPLED = 10
"""How many directions more than asked for a randomized decomposition probes."""


def default_cache() -> Path:
    """`$ADAPTERLAB_CACHE`, or `~/.cache/adapterlab`."""
    return Path(os.environ.get("ADAPTERLAB_CACHE") or Path.home() / ".cache" / "adapterlab")


class FactorCache:
    """Singular value decompositions by content.

    `folder` None keeps them in memory alone. At most `entries` are held in memory, the oldest dropped first.
    """

    def __init__(self, folder: Path | None = None, entries: int = 512) -> None:
        self.folder, self.entries = folder, entries
        self.computed = 0
        self._memory: dict[str, Factors] = {}

    def __call__(
        self, weight: Float[Tensor, "*heads out in"], rank: int | None = None, iterations: int | None = None
    ) -> Factors:
        """The top `rank` triplets of `weight` (all without `rank`), in its dtype (at least float32), on its device.

        Weights given together, `(heads, out, in)`, are kept together, and each has its own triplets. With `iterations` the
        triplets are those of a randomized decomposition with so many power iterations, unless the full one is known already.
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
        key = _content(weight)
        factors = self._known(key)
        if factors is None and iterations is not None and k < full:
            key = f"{key}-{k}-{iterations}"
            factors = self._known(key)
        if factors is None:
            factors = _decompose(weight) if iterations is None or k == full else _randomized(weight, k, iterations)
            self.computed += 1
            self._write(key, factors)
            self._remember(key, factors)
        u, s, vt = (part.to(weight.device) for part in factors)
        return Factors(u[..., :k], s[..., :k], vt[..., :k, :])

    def _known(self, key: str) -> Factors | None:
        factors = self._memory.get(key)
        if factors is None and (factors := self._read(key)) is not None:
            self._remember(key, factors)
        return factors

    def _remember(self, key: str, factors: Factors) -> None:
        self._memory[key] = factors
        while len(self._memory) > self.entries:
            self._memory.pop(next(iter(self._memory)))

    def _read(self, key: str) -> Factors | None:
        path = self.folder and self.folder / f"{key}.safetensors"
        if not path or not path.exists():
            return None
        try:
            return Factors(**load_file(path))
        except (SafetensorError, TypeError):
            return None  # a torn or foreign file is only a cache miss

    def _write(self, key: str, factors: Factors) -> None:
        if not self.folder:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".partial", delete=False) as partial:
                save_file({name: part.contiguous() for name, part in factors._asdict().items()}, partial.name)
            Path(partial.name).replace(self.folder / f"{key}.safetensors")
        except OSError:
            return  # a full or read-only disk costs only the next decomposition


def _content(weight: Tensor) -> str:
    data = weight.cpu().contiguous()
    head = f"{tuple(data.shape)}{data.dtype}".encode()
    return hashlib.blake2b(data.view(torch.uint8).numpy().tobytes(), digest_size=20, key=head[:64]).hexdigest()


def _decompose(weight: Float[Tensor, "*heads out in"]) -> Factors:
    return _signed(*torch.linalg.svd(weight, full_matrices=False))


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
    return _signed((basis @ u)[..., :rank], s[..., :rank], vt[..., :rank, :])


def _signed(
    u: Float[Tensor, "*heads out k"], s: Float[Tensor, "*heads k"], vt: Float[Tensor, "*heads k in"]
) -> Factors:
    largest = u.abs().argmax(-2, keepdim=True)
    sign = u.gather(-2, largest).sign()
    return Factors(u * sign, s, vt * sign.mT)
