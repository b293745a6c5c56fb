"""Tests of an argument map's claims by the results of a study, and the analysis of a whole study."""

from adapterlab.verdict.bayes_update import Judgement, Verdict, judge, relevance
from adapterlab.verdict.check_tests import check_tests, read_tests
from adapterlab.verdict.study_analysis import Analysis, analyse

__all__ = ["Analysis", "Judgement", "Verdict", "analyse", "check_tests", "judge", "read_tests", "relevance"]
