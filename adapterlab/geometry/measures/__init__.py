"""Measures of a weight change, by layer.

>>> [measure.name for measure in all_measures()][:4]
['energy_in_top(0.1)', 'energy_in_left(0.1)', 'energy_in_right(0.1)', 'energy_on_diagonal(0.1)']
>>> measure_named("energy_in_top(0.05)").title
'Energy in the top 5 % of singular directions'
"""

from __future__ import annotations

import re

from adapterlab.errors import UnknownNameError
from adapterlab.geometry.measures import angles, basis, sparsity, transforms
from adapterlab.geometry.measures.angles import ANGLES
from adapterlab.geometry.measures.base import Family, Measure
from adapterlab.geometry.measures.basis import BASIS
from adapterlab.geometry.measures.direction import DIRECTION
from adapterlab.geometry.measures.hyperspherical import HYPERSPHERICAL
from adapterlab.geometry.measures.sparsity import SPARSITY
from adapterlab.geometry.measures.spectrum import SPECTRUM
from adapterlab.geometry.measures.transforms import TRANSFORMS

_ALL: tuple[Measure, ...] = (*BASIS, *ANGLES, *SPECTRUM, *HYPERSPHERICAL, *DIRECTION, *SPARSITY, *TRANSFORMS)
_FAMILIES: dict[str, Family] = {
    family.name: family for family in (*basis.FAMILIES, *angles.FAMILIES, *sparsity.FAMILIES, *transforms.FAMILIES)
}


def all_measures() -> tuple[Measure, ...]:
    """Return all measures, in the order of reports."""
    return _ALL


def measure_named(name: str) -> Measure:
    """Return a measure by name, with any value of its parameter.

    Args:
        name: Name, with the parameter in parentheses if it has one: `stable_rank`, `energy_in_top(0.05)`.

    Raises:
        UnknownNameError: There is none of that name.
        AdapterlabError: The parameter is out of range.
    """
    known = {measure.name: measure for measure in _ALL}
    if name in known:
        return known[name]
    found = re.fullmatch(r"(\w+)\(([0-9.eE+-]+)\)", name)
    family = _FAMILIES.get(found[1]) if found else None
    value = _number(found[2]) if found else None
    if family is None or value is None:
        plain = [each for each in known if "(" not in each]
        raise UnknownNameError("measure", name, [*plain, *(f"{each}(NUMBER)" for each in _FAMILIES)])
    return family(value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
