"""The verdict as a file: `verdict.json`, every number with the trials that it came from."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from adapterlab.lab.analysis.statistics import Paired
from adapterlab.verdict.bayes_update import Judgement, Verdict


def write_verdict(judgement: Judgement, answer: str, study: str, path: Path) -> None:
    """Write `verdict.json`, whole or not at all."""
    data = {
        "study": study,
        "answer": answer,
        "relevance": judgement.relevance,
        "theses": {
            thesis: {
                semantics: {
                    "before": judgement.before[semantics].claims[thesis].credence,
                    "after": judgement.after[semantics].claims[thesis].credence,
                }
                for semantics in judgement.before
            }
            for thesis in judgement.theses
        },
        "claims": [_claim(verdict) for verdict in judgement.verdicts],
    }
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(data, indent=2) + "\n")
    partial.replace(path)


def _claim(verdict: Verdict) -> dict[str, Any]:
    common = {
        "claim": verdict.claim,
        "test": verdict.test.model_dump(by_alias=True, mode="json"),
        "before": verdict.before,
        "after": verdict.after,
    }
    if verdict.untested:
        return common | {"untested": verdict.untested}
    return common | {
        "effect": _effect(verdict.effect),
        "bayes_factor": verdict.bayes_factor,
        **({} if verdict.same is None else {"p_not_equivalent": verdict.same}),
        "relevance": verdict.relevance,
        "pairs": [
            {"task": p.task, "seed": p.seed, "difference": p.difference, "trials": list(p.trials)}
            for p in verdict.pairs
        ],
    }


def _effect(effect: Paired | None) -> dict[str, Any] | None:
    if effect is None:
        return None
    low, high = (bound if math.isfinite(bound) else None for bound in (effect.low, effect.high))
    return {"mean": effect.mean, "low": low, "high": high, "p": effect.p, "pairs": effect.n}
