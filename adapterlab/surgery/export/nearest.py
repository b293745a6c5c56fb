"""The LoRA of a given rank that is nearest to the change of weights of any adapter, and its distance.

>>> from adapterlab import adapter, attach
>>> handle = attach(nn.Sequential(nn.Linear(4, 4)), adapter("fourierft", n=4, zero_start=False))
>>> change = Change.of(handle)
>>> change.error(4) < 1e-6 < change.error(1) < 1
True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from adapterlab.adapters.context import Factors
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout
from adapterlab.adapters.peft_source import padded
from adapterlab.surgery.export.attached import Attached
from adapterlab.surgery.model.linear_layers import linears
from adapterlab.surgery.model.weights import shape_of
from adapterlab.surgery.sites.base import Site
from adapterlab.surgery.sites.pair import PairSite
from adapterlab.surgery.sites.parameter import ParameterSite


@dataclass(frozen=True)
class Change:
    """The change of the weights of linear layers, decomposed."""

    factors: Mapping[str, Factors]
    """Singular triplets of the change of each layer's weight, in float64, by the path of the layer."""

    @classmethod
    @torch.no_grad()
    def of(cls, handle: Attached) -> Change:
        """Return the change that an adapter makes.

        Args:
            handle: The attached adapter.

        Raises:
            CannotExportError: It changes something else than weights of linear layers.
        """
        layers = linears(handle.model)
        changes: dict[str, Tensor] = {}
        for path, site in handle.sites.items():
            for suffix, change in site.changes().items():
                layer, whole = _in_layer(path, suffix, site, change, layers)
                if layer in layers:
                    changes[layer] = changes[layer] + whole if layer in changes else whole
                elif change.any():
                    raise CannotExportError(
                        f"{handle.adapter.name} changes {layer}, and a LoRA changes only weights of linear layers"
                    )
        if not changes:
            raise CannotExportError(f"{handle.adapter.name} changes no weight of a linear layer")
        factors = {path: torch.linalg.svd(t.double(), full_matrices=False) for path, t in changes.items()}
        return cls({path: Factors(*found) for path, found in factors.items()})

    def errors(self, rank: int) -> Mapping[str, float]:
        """Return the relative error of the nearest LoRA at each layer.

        Args:
            rank: Rank of the LoRA.

        Returns:
            Frobenius norm of the difference, divided by that of the change, by path; 0 where nothing is changed.
        """
        return {path: _share([found.s], rank) for path, found in self.factors.items()}

    def error(self, rank: int) -> float:
        """Return the relative error of the nearest LoRA in all layers together.

        Args:
            rank: Rank of the LoRA.
        """
        return _share([found.s for found in self.factors.values()], rank)

    @property
    def largest_rank(self) -> int:
        """Rank from which on the nearest LoRA is exact."""
        return max(len(found.s) for found in self.factors.values())

    def rank_for(self, error: float) -> int:
        """Return the smallest rank whose relative error in all layers together is not above a bound.

        Args:
            error: The bound.
        """
        return next(rank for rank in range(1, self.largest_rank + 1) if self.error(rank) <= error)

    def layout(self, rank: int) -> PeftLayout:
        """Return the nearest LoRA.

        Args:
            rank: Its rank. A layer with fewer rows or columns has zeros in the rest of the factors.
        """
        tensors = {}
        for path, (u, s, vt) in self.factors.items():
            root = s[:rank].sqrt()
            tensors[f"{path}.lora_A.weight"] = padded((root[:, None] * vt[:rank]).float(), rank, 0)
            tensors[f"{path}.lora_B.weight"] = padded((u[:, :rank] * root).float(), rank, 1)
        config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "lora_dropout": 0.0}
        return PeftLayout({**config, "target_modules": list(self.factors)}, tensors)


def _share(singular: list[Tensor], rank: int) -> float:
    """Return the norm of the singular values after the first `rank` of each layer, relative to the norm of all."""
    left, whole = (sum(float(s[start:].square().sum()) for s in singular) for start in (rank, 0))
    return sqrt(left / whole) if whole else 0.0


def _in_layer(
    path: str, suffix: str, site: Site, change: Tensor, layers: Mapping[str, nn.Module]
) -> tuple[str, Tensor]:
    """Return the path of the linear layer that a change belongs to, and the change of its weight.

    A change of anything else is returned with its own path, which is not that of a layer.
    """
    if isinstance(site, PairSite):
        first = site.place.first
        if suffix:
            return f"{first.path}{suffix}", change
        whole = change.new_zeros(shape_of(first.module))
        whole[first.index] = change
        return first.path, whole
    if isinstance(site, ParameterSite):
        module, _, name = path.rpartition(".")
        if name != "weight" or module not in layers:
            return path, change
        return module, change.T if isinstance(layers[module], Conv1D) else change
    return f"{path}{suffix}", change
