"""Claims of a map held against the ledger: contest, Bayes factor, relevance, credence after."""

from adapterlab.verdict.record import write_verdict
from adapterlab.verdict.weigh import Judgement, Verdict, judge, relevance

__all__ = ["Judgement", "Verdict", "judge", "relevance", "write_verdict"]
