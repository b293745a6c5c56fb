"""Claims of a map held against the ledger: contest, Bayes factor, relevance, credence after."""

from adapterlab.verdict.bayes_update import Judgement, Verdict, judge, relevance
from adapterlab.verdict.verdict_json import write_verdict

__all__ = ["Judgement", "Verdict", "judge", "relevance", "write_verdict"]
