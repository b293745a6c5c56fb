"""A summary over tasks: the effect to expect on a task like these, and how much tasks differ."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

from adapterlab.lab.analysis.statistics.paired import Paired, from_error


@dataclass(frozen=True)
class Across:
    """A random-effects summary: each task has its own effect, drawn around the overall one."""

    overall: Paired
    """Its `n` is the number of tasks."""
    between: float
    """Standard deviation of the true effect from task to task; nan where a single task cannot tell."""
    low_next: float
    """Prediction interval of 95 %: where the effect on another task like these lies."""
    high_next: float
    tasks: dict[str, Paired]


def across_tasks(tasks: Mapping[str, Paired], level: float = 0.95) -> Across:
    """The overall effect from each task's effect and its standard error.

    Between-task variance by Paule and Mandel (1982), interval by Hartung and Knapp (2001) never narrower than with a scale
    of one (statsmodels' `combine_effects`); prediction interval of Higgins, Thompson and Spiegelhalter (2009). With two
    tasks there is one degree of freedom and the interval is very wide: that is what two tasks can say of others. With
    one, nothing is known of others: the overall effect is that task's, without an interval.
    """
    known = {name: effect for name, effect in tasks.items() if math.isfinite(effect.error)}
    if len(known) < 2:
        mean = next((e.mean for e in known.values()), math.nan)
        return Across(from_error(mean, math.inf, 0, len(known)), math.nan, -math.inf, math.inf, dict(tasks))
    effects = np.array([e.mean for e in known.values()])
    floor = max(1e-12, 1e-6 * float(np.max(np.abs(effects))))  # an error of zero would weigh infinitely
    # The Paule-Mandel iteration stops at a fixed tolerance, so the effects are brought to the size of one.
    unit = max(floor, float(np.max(np.abs(effects))), max(e.error for e in known.values()))
    variances = np.array([max(e.error, floor) ** 2 for e in known.values()]) / unit**2
    with np.errstate(divide="ignore"):  # its measure of heterogeneity, unused here, where all effects are equal
        found = combine_effects(effects / unit, variances, method_re="pm", use_t=True)
    error = unit * max(float(found.sd_eff_w_re), float(found.sd_eff_w_re_hksj))
    between = unit * math.sqrt(max(0.0, float(found.tau2)))
    mean, df = unit * float(found.mean_effect_re), len(known) - 1
    reach = float(stats.t.ppf((1 + level) / 2, max(1, df - 1))) * math.hypot(error, between)
    return Across(from_error(mean, error, df, len(known), level), between, mean - reach, mean + reach, dict(tasks))
