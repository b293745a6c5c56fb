"""Tests of an argument map's claims by the results of a study, and the analysis of a whole study."""

from adapterlab.verdict.bayes_update import Judgement, Verdict, judge, relevance
from adapterlab.verdict.study_analysis import Analysis, analyse

__all__ = ["Analysis", "Judgement", "Verdict", "analyse", "judge", "relevance"]
