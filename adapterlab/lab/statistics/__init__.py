"""Statistics of paired differences: intervals, tests of difference and equivalence, Bayes factors, ranks, random effects."""

from adapterlab.lab.statistics.bootstrap import Interval, bootstrap
from adapterlab.lab.statistics.components import Component, average, from_components, row_component
from adapterlab.lab.statistics.equivalence import equivalence
from adapterlab.lab.statistics.evalues import at_any_time, e_holm, e_value, holm_at_any_time, sequence_interval
from adapterlab.lab.statistics.hierarchical import Across, across_tasks, heterogeneity
from adapterlab.lab.statistics.moderated import NO_PRIOR, VariancePrior, fit_prior, fit_priors
from adapterlab.lab.statistics.paired import Paired, from_error, holm, paired
from adapterlab.lab.statistics.ranks import Ranks, kendall_w, rank_stability

__all__ = [
    "NO_PRIOR",
    "Across",
    "Component",
    "Interval",
    "Paired",
    "Ranks",
    "VariancePrior",
    "across_tasks",
    "at_any_time",
    "average",
    "bootstrap",
    "e_holm",
    "e_value",
    "equivalence",
    "fit_prior",
    "fit_priors",
    "from_components",
    "from_error",
    "heterogeneity",
    "holm",
    "holm_at_any_time",
    "kendall_w",
    "paired",
    "rank_stability",
    "row_component",
    "sequence_interval",
]
