r"""Intervals of scores: the numbers in a map as Beta distributions, propagated by simulation.

>>> from adapterlab.argmap.model.build import parse
>>> weather = parse("[Wet]: It is wet.\n  + [Rain]: It rains. {credence: 0.8, n: 20}")
>>> low, mean, high = intervals(weather, "df-quad")["Rain"]
>>> round(low, 2), round(mean, 2), round(high, 2)
(0.64, 0.8, 0.92)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from adapterlab.argmap.model.map import Map
from adapterlab.argmap.scoring.propagation import evaluate
from adapterlab.argmap.scoring.scores import propagate
from adapterlab.argmap.scoring.semantics import BAYES, DEFAULT, default_semantics, semantics_named
from adapterlab.errors import AdapterlabError

if TYPE_CHECKING:
    import numpy as np

    from adapterlab.argmap.scoring.compile_map import CompiledMap
    from adapterlab.argmap.scoring.semantics import Draws

DRAWS, MIN_DRAWS, MAX_NUMBERS = 4000, 200, 20_000_000
"""Draws of a simulation, the fewest draws for large maps, and the number of values (draws x nodes) that limits them."""
FEW = 1000
"""Largest number of uncertain numbers whose quantiles are computed one by one."""
TOGETHER = 500
"""Claims whose intervals are computed at once."""
DEFAULT_SIZE = 10.0
LARGE = 1e6
"""Sample size times mean (1 - mean) from which quantiles are approximated."""
TINY = 1e-300
"""Smallest parameter of a Beta distribution."""


class Interval(NamedTuple):
    """A central interval of a claim's credence."""

    low: float
    mean: float
    """Mean over the draws."""
    high: float


def intervals(
    the_map: Map,
    semantics: str | None = None,
    size: float = DEFAULT_SIZE,
    level: float = 0.9,
    credences: Mapping[str, float] | None = None,
    skip_broken: bool = False,
    seed: int = 0,
) -> dict[str, Interval]:
    """Simulate the credences of all claims.

    A credence c with sample size n is drawn from Beta(c n, (1 - c) n), the belief after n observations with a share c
    in favour. A claim or inference gives its own n as `n:` beside its number, and what is predicted as `predicted_n:`.
    Numbers of 0 and 1 are certain.

    Args:
        the_map: The map.
        semantics: As in `score`.
        size: Sample size n of the numbers without `n:` or `predicted_n:`.
        level: Probability that the interval covers, between 0 and 1.
        credences: As in `score`.
        skip_broken: As in `score`.
        seed: Seed of the draws; equal seeds give equal intervals.

    Returns:
        The interval of each claim, by title.

    Raises:
        AdapterlabError: As in `score`, or a sample size is not positive, or `level` is not between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise AdapterlabError(f"the level of an interval must be between 0 and 1, not {level:g}")
    name = semantics or default_semantics(the_map)
    if name == BAYES:
        from adapterlab.argmap.scoring.bayes import try_compile

        compiled, _ = try_compile(the_map, credences, skip_broken)
        if compiled is not None:
            return _by_inference(the_map, compiled, size, level, seed)
    rules = semantics_named(DEFAULT if name == BAYES else name)
    network, point = propagate(the_map, rules, credences, skip_broken)
    sizes = _sizes(the_map, network.parameters, size)
    uncertain = {name: i for name, i in network.parameters.items() if 0.0 < network.nodes[i].given < 1.0}
    if not uncertain:
        return {title: Interval(*[point.values[i]] * 3) for title, i in network.claims.items()}
    numbers = {str(index): (network.nodes[index].given, sizes[name]) for name, index in uncertain.items()}
    drawn = _drawn(numbers, len(network.nodes), seed)
    values = evaluate(network, rules, {int(index): draws for index, draws in drawn.items()}).values
    return _summaries({title: values[index] for title, index in network.claims.items()}, level)


def _by_inference(the_map: Map, compiled: CompiledMap, size: float, level: float, seed: int) -> dict[str, Interval]:
    from adapterlab.argmap.scoring.bayes import credences_of

    uncertain = {name: value for name, value in compiled.numbers.items() if 0.0 < value < 1.0}
    sizes = _sizes(the_map, uncertain, size)
    drawn = _drawn({name: (mean, sizes[name]) for name, mean in uncertain.items()}, len(compiled.claims), seed)
    return _summaries(credences_of(compiled, drawn), level)


def _drawn(numbers: Mapping[str, tuple[float, float]], nodes: int, seed: int) -> dict[str, Draws]:
    """Return draws of numbers with their means and sample sizes, by name; fewer for maps of many nodes."""
    import numpy as np

    count = max(MIN_DRAWS, min(DRAWS, MAX_NUMBERS // max(1, nodes)))
    draw = _spread_draws if len(numbers) <= FEW else _permuted_draws
    return draw(numbers, count, np.random.default_rng(seed))


def _summaries(values: Mapping[str, float | Draws], level: float) -> dict[str, Interval]:
    """Return the interval of each claim, by title."""
    import numpy as np

    tail = (1.0 - level) / 2.0
    found: dict[str, Interval] = {}
    titles = list(values)
    count = max((np.size(drawn) for drawn in values.values()), default=1)
    for start in range(0, len(titles), TOGETHER):
        block = titles[start : start + TOGETHER]
        draws = np.stack([np.broadcast_to(values[title], (count,)) for title in block])
        low, high = np.quantile(draws, [tail, 1.0 - tail], axis=1).tolist()
        found.update(zip(block, map(Interval, low, draws.mean(axis=1).tolist(), high), strict=True))
    return found


def _spread_draws(
    numbers: Mapping[str, tuple[float, float]], count: int, generator: np.random.Generator
) -> dict[str, Draws]:
    """Return draws of each number, by name; a Latin hypercube spreads them evenly, so that fewer are needed.

    The hypercube is that of `scipy.stats.qmc`, whose import alone takes longer than most simulations.
    """
    import numpy as np

    generator = generator.spawn(1)[0]
    jitter = generator.uniform(size=(count, len(numbers)))
    strata = np.tile(np.arange(1, count + 1), (len(numbers), 1))
    for row in strata:
        generator.shuffle(row)
    shares = (strata - jitter.T) / count
    return {
        name: beta_quantiles(mean, size, row) for (name, (mean, size)), row in zip(numbers.items(), shares, strict=True)
    }


def _permuted_draws(
    numbers: Mapping[str, tuple[float, float]], count: int, generator: np.random.Generator
) -> dict[str, Draws]:
    """Return draws of each number, by name. Equal numbers have the same evenly spread draws in different orders.

    Large maps have many equal numbers, and quantiles take longer than all other parts of the simulation.
    """
    import numpy as np

    shares = (np.arange(count) + generator.random(count)) / count
    drawn = {pair: beta_quantiles(*pair, shares) for pair in dict.fromkeys(numbers.values())}
    return {name: generator.permutation(drawn[pair]) for name, pair in numbers.items()}


def beta_quantiles(mean: float, size: float, probabilities: Draws) -> Draws:
    """Return quantiles of Beta(mean size, (1 - mean) size).

    The exact computation takes longer the larger the size is. If size mean (1 - mean) is at least `LARGE`, the first two
    terms of the Cornish-Fisher expansion are used instead; their error is below 1e-5 standard deviations.

    Args:
        mean: Mean of the distribution, between 0 and 1.
        size: Sample size, positive; may be infinite.
        probabilities: Probabilities in [0, 1].
    """
    import numpy as np
    from scipy.special import betaincinv, ndtri

    spread = mean * (1.0 - mean)
    if size * spread < LARGE:
        # The smallest parameters would round to zero, for which there is no distribution.
        return betaincinv(max(mean * size, TINY), max((1.0 - mean) * size, TINY), probabilities)
    normal = np.clip(ndtri(probabilities), -10.0, 10.0)
    skewness = 2.0 * (1.0 - 2.0 * mean) / math.sqrt((size + 1.0) * spread)
    deviation = math.sqrt(spread / (size + 1.0))
    return np.clip(mean + deviation * (normal + skewness * (normal**2 - 1.0) / 6.0), 0.0, 1.0)


def _sizes(the_map: Map, names: Iterable[str], size: float) -> dict[str, float]:
    """Return the sample size of each number in the map, by name; a prior beside a credence has no own."""
    found = {}
    asked = list(names)
    predicted = _predicted_sizes(the_map) if any(" if " in name for name in asked) else {}
    for name in asked:
        if name in predicted:
            stated: object = predicted[name]
        elif name.endswith("] prior"):
            stated = None
        elif name.startswith("["):
            stated = the_map.claims[name[1:-1]].data.get("n")
        else:
            title, _, earlier = name.rpartition(">")
            argument = the_map.arguments[title[1:]]
            step = argument.steps[int(earlier[1:]) - 1 if earlier else -1] if argument.steps else None
            mentions = the_map.claims[step.conclusion].mentions if step else argument.mentions
            own = next((m.data["n"] for m in mentions if "n" in m.data and m.argument in (None, argument.title)), None)
            stated = step.data.get("n", own) if step else own
        count = size if stated is None else stated
        if isinstance(count, bool) or not isinstance(count, int | float) or not count > 0:
            raise AdapterlabError(f"{name}: a sample size (n:) must be a positive number, not {count!r}")
        found[name] = float(count)
    return found


def _predicted_sizes(the_map: Map) -> dict[str, float | None]:
    """Return the sample sizes of the numbers of all arrows, by name; None for those without one."""
    from adapterlab.argmap.scoring.arrows import arrows_of
    from adapterlab.argmap.scoring.predicted import stated_sizes

    found: dict[str, float | None] = {}
    for arrow in arrows_of(the_map):
        found.update(zip(arrow.names, stated_sizes(the_map, arrow) or (None, None), strict=True))
    return found
