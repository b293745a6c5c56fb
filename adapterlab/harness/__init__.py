"""Trained adapters as models of lm-eval.

>>> from adapterlab.harness import Target
>>> Target("embedded").name
'embedded'
"""

from adapterlab.harness.evaluation import as_table, evaluate, lm_eval_model
from adapterlab.harness.targets import Target, default_out, find_target

__all__ = ["Target", "as_table", "default_out", "evaluate", "find_target", "lm_eval_model"]
