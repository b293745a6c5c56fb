"""Ranks by layer for LoRA's start `eva`, which gives more of them to layers whose inputs vary in more directions.

>>> import torch
>>> from torch import nn
>>> from adapterlab.adapters import adapter
>>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
>>> x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 1.0, 1.0, 1.0])
>>> lora = adapter("lora", rank=2, start="eva")
>>> chosen = eva_ranks(model, lora, runs=[lambda: model(x)])
>>> sum(settings["rank"] for settings in chosen["settings"].values())
4
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor, nn

from adapterlab.adapters.context import Moments
from adapterlab.adapters.rank.lora import LoRA
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.init.calibration import input_moments
from adapterlab.surgery.model.where import ALL, Targets, Where
from adapterlab.surgery.sites.find import places_for
from adapterlab.surgery.sites.linear import LayerPlace


class Chosen(TypedDict):
    """Arguments for `attach`."""

    targets: list[str]
    """Paths of the layers whose rank is above zero."""
    settings: dict[str, dict[str, Any]]
    """Rank and `alpha` of each of them; the factor on `B A` is the same everywhere."""


def eva_ranks(
    model: nn.Module,
    lora: LoRA,
    *,
    runs: Sequence[Callable[[], object]],
    rho: float = 2.0,
    targets: Targets = ALL,
    exclude: Targets = (),
    layers: Sequence[int] | None = None,
) -> Chosen:
    """Return the ranks of EVA's redistribution, `attach(model, lora, **eva_ranks(model, lora, runs=runs), runs=runs)`.

    Of all principal directions of all layers' inputs, the `rank * number of layers` with the largest share of their
    layer's variance are kept, at most `rho * rank` in one layer (Paischer et al. 2024, section 3.3; PEFT's `EvaConfig.rho`).

    Args:
        model: The model.
        lora: The method, with `start="eva"`; its rank is the mean of the ranks that are returned.
        runs: Functions that each run the model on texts without padding, as in `attach`.
        rho: Largest rank of a layer relative to `lora.rank`, at least 1; 1 keeps all ranks equal.
        targets: Linear layers to adapt, as in `attach`.
        exclude: Layers to leave out, as in `attach`.
        layers: Numbers of the blocks to adapt, as in `attach`.

    Raises:
        AdapterlabError: `rho` is below 1, the runs have too few tokens for the largest rank, or do not call a layer.
    """
    if not rho >= 1:
        raise AdapterlabError(f"rho is {rho}: give a number of at least 1")
    places = places_for(model, lora, Where(targets, exclude, layers, {}))
    linear = {path: place.layer for path, place in places.items() if isinstance(place, LayerPlace)}
    largest, budget = round(rho * lora.rank), lora.rank * len(linear)
    moments = input_moments(linear, runs)
    if (tokens := min(found.tokens for found in moments.values())) <= largest:
        raise AdapterlabError(f"eva_ranks: ranks up to {largest} need more than {tokens} tokens: give longer runs")
    shares = {path: variance_shares(found)[:largest] for path, found in moments.items()}
    order = torch.cat([shares[path] for path in linear]).argsort(descending=True, stable=True)[:budget]
    owner = torch.repeat_interleave(torch.tensor([len(shares[path]) for path in linear]))
    counts = torch.bincount(owner[order], minlength=len(linear)).tolist()
    ranks = {path: rank for path, rank in zip(linear, counts, strict=True) if rank}
    settings = {path: {"rank": rank, "alpha": alpha_for(lora, rank)} for path, rank in ranks.items()}
    return {"targets": list(ranks), "settings": settings}


def variance_shares(moments: Moments) -> Float[Tensor, " in"]:
    """Return the share of each principal direction in the variance of a layer's inputs, the largest first.

    Args:
        moments: Sums over the inputs.
    """
    mean = moments.total.double() / moments.tokens
    covariance = moments.squares.double() / moments.tokens - torch.outer(mean, mean)
    values: Tensor = torch.linalg.eigvalsh(covariance).flip(0).clamp_min(0)
    shares: Tensor = values / values.sum().clamp_min(torch.finfo(values.dtype).tiny)
    return shares


def alpha_for(lora: LoRA, rank: int) -> float:
    """Return the `alpha` that keeps a LoRA's factor on `B A` at another rank.

    Args:
        lora: The method.
        rank: The other rank.
    """
    return lora.scale * (rank**0.5 if lora.rslora else rank)
