"""Correlation of contests' results with what claims are about: large models, trained for long.

>>> round(relevance(TARGET.parameters, TARGET.examples), 2), relevance(10**6) < relevance(10**8) < 1
(1.0, True)
"""

from __future__ import annotations

from adapterlab.evidence.fit_carry import shipped_carry
from adapterlab.lab.statistics.carry import LONG, Place

TARGET = Place(1e10, LONG)
"""Model size and training examples from which on claims are about all models: a stated convention."""


def place_of(parameters: float, examples: float | None = None) -> Place:
    """Return the place of a contest; models and runs that are larger than `TARGET` count as this.

    Args:
        parameters: Number of parameters of the model.
        examples: Training examples that each run saw; None if not known.
    """
    seen = None if examples is None else min(examples, TARGET.examples or examples)
    return Place(min(parameters, TARGET.parameters), seen)


def relevance(parameters: float, examples: float | None = None) -> float:
    """Return the correlation of differences between methods, as a contest measures them, with those that claims mean.

    It follows from a fit to published results (`adapterlab.evidence.fit_carry`).

    Args:
        parameters: Number of parameters of the model that the contests were run on.
        examples: Training examples that each run saw; None if not known, for which a usual full training is taken.

    Returns:
        The correlation, from 0 to 1.
    """
    return shipped_carry().correlation(place_of(parameters, examples), TARGET)
