"""Statistics of paired differences: intervals, tests of difference and equivalence, Bayes factors, ranks, random effects."""

from adapterlab.lab.analysis.statistics.bayes import bayes_factor_positive, bayes_factor_within, jzs_one_sided
from adapterlab.lab.analysis.statistics.bootstrap import Interval, bootstrap
from adapterlab.lab.analysis.statistics.equivalence import equivalence
from adapterlab.lab.analysis.statistics.hierarchical import Across, across_tasks
from adapterlab.lab.analysis.statistics.paired import Paired, holm, paired, stratified
from adapterlab.lab.analysis.statistics.ranks import Ranks, kendall_w, rank_stability

__all__ = [
    "Across",
    "Interval",
    "Paired",
    "Ranks",
    "across_tasks",
    "bayes_factor_positive",
    "bayes_factor_within",
    "bootstrap",
    "equivalence",
    "holm",
    "jzs_one_sided",
    "kendall_w",
    "paired",
    "rank_stability",
    "stratified",
]
