"""Similarity of two streams of activations, from sums over their tokens.

>>> moments = StreamMoments()
>>> x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
>>> moments.add(x, x.flip(1))  # a rotation
>>> {name: abs(round(value, 6)) for name, value in moments.measures().items()}
{'cka': 1.0, 'procrustes': 0.0}
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


class StreamMoments:
    """Sums, in float64, of the first and second moments of two streams of activations, of the same tokens."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: list[Tensor] = []
        self._products: list[Tensor] = []

    def add(self, before: Float[Tensor, "tokens width"], after: Float[Tensor, "tokens width"]) -> None:
        """Add the activations of some tokens.

        Args:
            before: Activations of the base model.
            after: Activations of the tuned model.
        """
        x, y = before.double(), after.double()
        sums, products = [x.sum(0), y.sum(0)], [x.T @ x, y.T @ y, y.T @ x]
        if not self._count:
            self._sums, self._products = sums, products
        else:
            for kept, new in zip(self._sums + self._products, sums + products, strict=True):
                kept += new
        self._count += len(x)

    def measures(self) -> dict[str, float]:
        """Return `cka` and `procrustes`, as `measure_activations` defines them; for streams that do not vary both say equal.

        With the centered streams `X` and `Y` as rows, `cka = |Y^T X|^2 / (|X^T X| |Y^T Y|)` in Frobenius norms, and the
        smallest `|X R - Y|^2` over rotations `R` is `|X|^2 + |Y|^2 - 2 |Y^T X|_*`, with the nuclear norm.
        """
        x, y = self._sums
        xx, yy, yx = (
            product - torch.outer(a, b) / self._count
            for product, a, b in zip(self._products, (x, y, y), (x, y, x), strict=True)
        )
        sizes = float(torch.linalg.matrix_norm(xx) * torch.linalg.matrix_norm(yy))
        cka = float(torch.linalg.matrix_norm(yx)) ** 2 / sizes if sizes else 1.0
        total = float(xx.trace())
        distance = total + float(yy.trace()) - 2 * float(torch.linalg.matrix_norm(yx, "nuc"))
        return {"cka": min(cka, 1.0), "procrustes": max(distance, 0.0) / total if total else _without(distance)}


def _without(distance: float) -> float:
    return math.inf if distance > 0 else 0.0
