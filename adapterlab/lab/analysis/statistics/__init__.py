"""What paired differences say: intervals, tests of a difference and of none, Bayes factors, ranks, a summary over tasks."""

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
