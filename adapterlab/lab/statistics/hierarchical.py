"""Random effects over tasks: the effect to expect on another task like these, and how much tasks differ.

>>> from adapterlab.lab.statistics.paired import paired
>>> summary = across_tasks({"prose": paired([0.020, 0.021, 0.019]), "restyle": paired([0.050, 0.052, 0.049])})
>>> round(summary.overall.mean, 3), round(summary.between, 3), summary.overall.real
(0.035, 0.021, False)
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from adapterlab.lab.statistics.paired import Paired, from_error


@dataclass(frozen=True)
class Across:
    """Summary of a random-effects model, in which each task has its own effect, drawn around the overall one."""

    overall: Paired
    """The overall effect; its `n` is the number of tasks."""
    between: float
    """Standard deviation of the true effect between tasks; nan for a single task."""
    low_next: float
    """Lower limit of the prediction interval for the effect on another task like these."""
    high_next: float
    """Upper limit of that interval."""
    tasks: dict[str, Paired]
    """By task, the effects that were summarised."""


def across_tasks(tasks: Mapping[str, Paired], level: float = 0.95) -> Across:
    """Estimate the overall effect from the effects of single tasks and their standard errors.

    Between-task variance by Paule and Mandel (1982); interval by Hartung and Knapp (2001), never narrower than with a scale
    of one (statsmodels' `combine_effects`); prediction interval of Higgins, Thompson and Spiegelhalter (2009). Two tasks
    give one degree of freedom and therefore a very wide interval.

    Args:
        tasks: By task, the effect; effects of unknown error are left out of the estimate.
        level: Level of the intervals.

    Returns:
        The summary. With fewer than two known effects, the overall effect is that of one task, with an infinite interval.
    """
    known = {name: effect for name, effect in tasks.items() if math.isfinite(effect.error)}
    if len(known) < 2:
        mean = next((e.mean for e in known.values()), math.nan)
        return Across(from_error(mean, math.inf, 0, len(known)), math.nan, -math.inf, math.inf, dict(tasks))
    effects = np.array([e.mean for e in known.values()])
    floor = max(1e-12, 1e-6 * float(np.max(np.abs(effects))))  # an error of zero would have infinite weight
    # The Paule-Mandel iteration stops at a fixed absolute tolerance, so the effects are scaled to a size of about one.
    unit = max(floor, float(np.max(np.abs(effects))), max(e.error for e in known.values()))
    variances = np.array([max(e.error, floor) ** 2 for e in known.values()]) / unit**2
    with np.errstate(divide="ignore"):  # equal effects divide by zero in its measure of heterogeneity, unused here
        found = combine_effects(effects / unit, variances, method_re="pm", use_t=True)
    error = unit * max(float(found.sd_eff_w_re), float(found.sd_eff_w_re_hksj))
    between = unit * math.sqrt(max(0.0, float(found.tau2)))
    mean, df = unit * float(found.mean_effect_re), len(known) - 1
    reach = float(stats.t.ppf((1 + level) / 2, max(1, df - 1))) * math.hypot(error, between)
    return Across(from_error(mean, error, df, len(known), level), between, mean - reach, mean + reach, dict(tasks))


def heterogeneity(effects: Sequence[Paired]) -> float:
    """Return the p-value of the hypothesis that the true effect is the same on all tasks.

    Cochran's Q divided by its degrees of freedom, as an F statistic with the smallest degrees of freedom of the errors.

    Args:
        effects: The effect on each task; those of unknown or no error are left out.

    Returns:
        The p-value; 1 for fewer than two known effects.
    """
    known = [effect for effect in effects if math.isfinite(effect.error) and effect.error > 0]
    if len(known) < 2:
        return 1.0
    weights = np.array([1 / effect.error**2 for effect in known])
    means = np.array([effect.mean for effect in known])
    q = float((weights * (means - np.average(means, weights=weights)) ** 2).sum())
    return float(stats.f.sf(q / (len(known) - 1), len(known) - 1, min(effect.df for effect in known)))
