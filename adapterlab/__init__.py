"""Parameter-efficient adapters as hypotheses about a transformer, and fair contests between them.

>>> import adapterlab
>>> adapterlab.adapter("lora", rank=8).alpha
16.0
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapterlab.adapters import adapter, all_adapters
    from adapterlab.api import (
        analysis,
        calibrate,
        compare,
        estimate,
        import_trials,
        power,
        predict_rate,
        retry,
        run,
        status,
        trials,
        tune,
    )
    from adapterlab.errors import AdapterlabError
    from adapterlab.harness import lm_eval_model
    from adapterlab.harness.geometry import geometry_of
    from adapterlab.lab.study.load import load_study
    from adapterlab.lab.study.spec import Study
    from adapterlab.surgery import Handle, attach, load, load_peft, parameter_count, sized
    from adapterlab.surgery.eva_ranks import eva_ranks
    from adapterlab.surgery.handle import attached
    from adapterlab.surgery.rows import adapter_rows
    from adapterlab.surgery.several import combine, set_active
    from adapterlab.surgery.trainer.callback import TrainerCallback
    from adapterlab.surgery.trainer.optimizer import optimizer_for
    from adapterlab.tuning.advice import Advice
    from adapterlab.verdict.study_analysis import Analysis

_HOMES = {
    "adapterlab.adapters": ("adapter", "all_adapters"),
    "adapterlab.api": (
        *("analysis", "calibrate", "compare", "estimate", "import_trials", "power", "predict_rate"),
        *("retry", "run", "status", "trials", "tune"),
    ),
    "adapterlab.errors": ("AdapterlabError",),
    "adapterlab.harness": ("lm_eval_model",),
    "adapterlab.harness.geometry": ("geometry_of",),
    "adapterlab.lab.study.load": ("load_study",),
    "adapterlab.lab.study.spec": ("Study",),
    "adapterlab.surgery": ("Handle", "attach", "load", "load_peft", "parameter_count", "sized"),
    "adapterlab.surgery.eva_ranks": ("eva_ranks",),
    "adapterlab.surgery.handle": ("attached",),
    "adapterlab.surgery.rows": ("adapter_rows",),
    "adapterlab.surgery.several": ("combine", "set_active"),
    "adapterlab.surgery.trainer.callback": ("TrainerCallback",),
    "adapterlab.surgery.trainer.optimizer": ("optimizer_for",),
    "adapterlab.tuning.advice": ("Advice",),
    "adapterlab.verdict.study_analysis": ("Analysis",),
}
__all__ = [
    "AdapterlabError",
    "Advice",
    "Analysis",
    "Handle",
    "Study",
    "TrainerCallback",
    "adapter",
    "adapter_rows",
    "all_adapters",
    "analysis",
    "attach",
    "attached",
    "calibrate",
    "combine",
    "compare",
    "estimate",
    "eva_ranks",
    "geometry_of",
    "import_trials",
    "lm_eval_model",
    "load",
    "load_peft",
    "load_study",
    "optimizer_for",
    "parameter_count",
    "power",
    "predict_rate",
    "retry",
    "run",
    "set_active",
    "sized",
    "status",
    "trials",
    "tune",
]


def __getattr__(name: str) -> Any:
    # torch is imported when something is first used, so that `import adapterlab` is fast.
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'adapterlab' has no attribute {name!r}")
