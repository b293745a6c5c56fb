"""Predict a method's learning rate on a model and a task before anything is trained.

Two predictions are made, and averaged on the logarithm of the rate where both are known:

- the method's prior rate (`rate_priors.py`), for methods that ledgers know;
- a straight line, on logarithms, in the rate `slope / curvature` that the gradient and the curvature at the start give
  (`start_scale.py`), which needs no record of the method.

`rate_curvature.toml` has the line and, for each kind of prediction, the distance that 90 % of the cross-validated errors
stay within. It is written by `tools/learn_rate_priors.py`.

>>> law = CurvatureLaw(-4.0, 0.5, contests=20, methods=12, reach={"prior": 1.0, "curvature": 1.0, "both": 1.0})
>>> scale = StartScale(slope=2.0, curvature=200.0, norm=0.1, parameters=400)
>>> found = predict("lora", {"alpha": 16.0}, scale, steps=40, width=256, embedded=True, law=law)
>>> round(law.rate(scale), 3), round(found.rate / found.low, 1)
(0.01, 1.8)
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.lr_search import PER_DECADE
from adapterlab.lab.run.rate_priors import TRUSTED_LENGTHS, rate_priors
from adapterlab.lab.trial.start_scale import StartScale

FILE = Path(__file__).parent / "rate_curvature.toml"
"""The line that comes with the package."""


@dataclass(frozen=True)
class CurvatureLaw:
    """Straight line that takes the curvature's rate to the best rate, as positions on the lattice of rates."""

    intercept: float
    slope: float
    contests: int
    """Contests that it was fitted to."""
    methods: int
    """Methods of those contests."""
    reach: Mapping[str, float]
    """Distance, in steps of the lattice, that 90 % of the cross-validated errors stay within: of `prior`, `curvature`
    or `both`."""

    def rate(self, scale: StartScale) -> float | None:
        """Return the predicted rate, or None if the curvature gives none.

        Args:
            scale: Gradient and curvature at the start of training.
        """
        if scale.rate is None:
            return None
        return float(10 ** ((self.intercept + self.slope * PER_DECADE * math.log10(scale.rate)) / PER_DECADE))


@dataclass(frozen=True)
class RatePrediction:
    """A predicted learning rate, and what it was computed from."""

    method: str
    rate: float
    """Predicted peak learning rate of AdamW."""
    low: float
    """Lower end of the range that holds the best rate in 90 % of the cross-validated cases."""
    high: float
    """Upper end of that range."""
    prior: float | None
    """Rate that other tasks predict for the method; None for a method without a prior."""
    by_curvature: float | None
    """Rate that gradient and curvature predict; None if the loss does not bend up along the first step."""
    scale: StartScale
    """Gradient and curvature at the start of training."""
    steps: int
    """Training steps that the rate is for."""
    notes: tuple[str, ...]
    """Reasons to trust the range less."""

    def to_json(self) -> dict[str, Any]:
        """Return the prediction as plain data."""
        return asdict(self)


def predict(
    method: str,
    settings: Mapping[str, object],
    scale: StartScale,
    *,
    steps: int,
    width: int | None,
    embedded: bool,
    law: CurvatureLaw | None = None,
) -> RatePrediction:
    """Predict a learning rate.

    Args:
        method: Name of the method.
        settings: Its hyperparameters by name.
        scale: Gradient and curvature at the start of training.
        steps: Training steps.
        width: Width of the model; None if unknown.
        embedded: True if the model is the one that the predictions were validated on.
        law: Line in the curvature's rate; that of the package if None.

    Returns:
        The prediction.

    Raises:
        AdapterlabError: If the method has no prior and the loss does not bend up along the first step.
    """
    law, entry = law or curvature_law(), rate_priors().get(method)
    prior = None if entry is None else entry.at(settings, width)
    by_curvature = law.rate(scale)
    known = [math.log10(rate) for rate in (prior, by_curvature) if rate is not None]
    if not known:
        raise AdapterlabError(
            f"{method}: the loss does not bend up along the first step (curvature {scale.curvature:.3g}), and no study has "
            "recorded a rate: find one with `adapterlab tune`"
        )
    kind = "both" if len(known) == 2 else "curvature" if prior is None else "prior"
    centre, reach = fmean(known), law.reach[kind] / PER_DECADE
    notes = []
    if not embedded:
        notes.append("The range was cross-validated on the embedded model alone.")
    if entry is not None and entry.steps and not 1 / TRUSTED_LENGTHS <= steps / entry.steps <= TRUSTED_LENGTHS:
        notes.append(f"It was cross-validated on runs of {entry.steps} steps; longer ones often need a lower rate.")
    return RatePrediction(
        method,
        _two_digits(centre),
        _two_digits(centre - reach),
        _two_digits(centre + reach),
        prior,
        by_curvature,
        scale,
        steps,
        tuple(notes),
    )


def _two_digits(log: float) -> float:
    return float(f"{10**log:.2g}")


@cache
def curvature_law(file: Path = FILE) -> CurvatureLaw:
    """Return the line of a file.

    Args:
        file: A file in the form of `rate_curvature.toml`.
    """
    return CurvatureLaw(**tomllib.loads(file.read_text("utf-8")))
