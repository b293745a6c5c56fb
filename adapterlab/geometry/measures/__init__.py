"""Measures of a weight change, by layer.

>>> [measure.name for measure in all_measures()][:2]
['energy_in_top(0.1)', 'stable_rank']
"""

from __future__ import annotations

from adapterlab.geometry.measures.base import Measure
from adapterlab.geometry.measures.spectrum import SPECTRUM

_ALL: tuple[Measure, ...] = (*SPECTRUM,)


def all_measures() -> tuple[Measure, ...]:
    """Return all measures, in the order of reports."""
    return _ALL
