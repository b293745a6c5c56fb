"""Tests of an argument map's claims by the results of a study, and the analysis of a whole study."""

from adapterlab.verdict.check_tests import check_tests, read_tests
from adapterlab.verdict.claim_verdict import Verdict
from adapterlab.verdict.judge_map import Judgement, judge
from adapterlab.verdict.relevance import relevance
from adapterlab.verdict.study_analysis import Analysis, analyse

__all__ = ["Analysis", "Judgement", "Verdict", "analyse", "check_tests", "judge", "read_tests", "relevance"]
