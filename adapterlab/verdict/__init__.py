"""Claims of a map tested by contests, and the whole analysis of a study."""

from adapterlab.verdict.bayes_update import Judgement, Verdict, judge, relevance
from adapterlab.verdict.study_analysis import Analysis, analyse

__all__ = ["Analysis", "Judgement", "Verdict", "analyse", "judge", "relevance"]
