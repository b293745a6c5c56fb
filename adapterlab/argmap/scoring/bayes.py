r"""Scores by Bayesian inference: the probability of each claim given all evidence.

A map is no Bayesian network if claims bear on each other in a circle, or if it is too entangled for exact inference.

>>> from adapterlab.argmap.model.build import parse
>>> weather = parse("[Wet]: It is wet. {prior: 0.2}\n  + [Rain]: It rains. {predicted: [0.9, 0.1], credence: 0.9}")
>>> round(slopes(compile_map(weather), "Wet")["[Rain]"], 3)
0.665
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from adapterlab.argmap.model.map import Map
from adapterlab.argmap.scoring.belief_network import CyclicError, Draws
from adapterlab.argmap.scoring.compile_map import CompiledMap, compile_map
from adapterlab.argmap.scoring.join_tree import TooEntangledError

STEP = 1e-5
"""Half the difference of two values of a number, for a derivative."""
AT_ONCE = 4000
"""Draws that are computed together."""


def try_compile(
    the_map: Map, credences: Mapping[str, float] | None = None, skip_broken: bool = False
) -> tuple[CompiledMap | None, str]:
    """Return the Bayesian network of a map, or None and the reason why it has none.

    Args:
        the_map: The map.
        credences: As in `compile_map`.
        skip_broken: As in `compile_map`.

    Raises:
        AdapterlabError: As in `compile_map`, except that a circle or a tangle of claims is the reason for None.
    """
    try:
        return compile_map(the_map, credences, skip_broken), ""
    except (CyclicError, TooEntangledError) as error:
        return None, str(error)


def credences_of(compiled: CompiledMap, changed: Mapping[str, float | Draws] | None = None) -> dict[str, Draws]:
    """Return the probability of each claim, by title.

    Args:
        compiled: The network.
        changed: Numbers in place of those in the map, by name; arrays of equal length for several draws.

    Returns:
        Arrays with one value, or one for each draw.
    """
    found = compiled.posterior(changed)
    return {title: found[i] for title, i in compiled.claims.items()}


def along(compiled: CompiledMap, title: str, numbers: Mapping[str, Draws]) -> dict[str, Draws]:
    """Return the probability of a claim as each of some numbers varies alone.

    Args:
        compiled: The network.
        title: Title of the claim.
        numbers: By name, values of the number, `(values,)`.

    Returns:
        By name, the probabilities, `(values,)`.
    """
    names = list(numbers)
    found: dict[str, Draws] = {}
    given = compiled.numbers
    size = max(1, AT_ONCE // max((len(values) for values in numbers.values()), default=1))
    for first in range(0, len(names), size):
        some = names[first : first + size]
        ends = np.cumsum([0, *(len(numbers[name]) for name in some)])
        changed = {name: np.full(ends[-1], given[name]) for name in some}
        for name, start, end in zip(some, ends[:-1], ends[1:], strict=True):
            changed[name][start:end] = numbers[name]
        values = np.broadcast_to(compiled.posterior(changed)[compiled.claims[title]], ends[-1])
        found |= {name: values[start:end] for name, start, end in zip(some, ends[:-1], ends[1:], strict=True)}
    return found


def slopes(compiled: CompiledMap, title: str) -> dict[str, float]:
    """Return the derivative of a claim's probability with respect to each number, by central differences.

    Args:
        compiled: The network.
        title: Title of the claim.

    Returns:
        Derivatives by name.
    """
    given = {name: value for name, value in compiled.numbers.items() if not math.isnan(value)}
    ends = {name: np.clip([value - STEP, value + STEP], 0.0, 1.0) for name, value in given.items()}
    found = along(compiled, title, ends)
    return {name: float((values[1] - values[0]) / (ends[name][1] - ends[name][0])) for name, values in found.items()}
