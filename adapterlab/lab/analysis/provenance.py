"""Provenance of a study's results: model, data, training, seeds, statistics and environments, in words.

>>> Provenance({"model": "embedded, weights 1f"}).facts["model"]
'embedded, weights 1f'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.ledger.origins import Origin
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.trial.train import GRADIENT_CLIP

ENVIRONMENT = ("python", "torch", "transformers", "adapterlab", "machine", "system", "device")
"""Facts of an environment that are listed."""


@dataclass(frozen=True)
class Provenance:
    """Facts about the origin of results, by heading."""

    facts: Mapping[str, str]


def provenance_of(results: Results, origins: Sequence[Origin]) -> Provenance:
    """Collect the provenance of results.

    Args:
        results: Finished contests.
        origins: Environments that the trials ran in.

    Returns:
        Facts by heading: model, tasks, training, precision, seeds, statistics, and the versions and hardware of the trials.
    """
    study = results.study
    reported = next(iter(results.contests.values())).reported
    first = next(iter(reported.values()))[0] if reported else None
    where = {key: sorted({str(getattr(origin, key)) for origin in origins}) for key in ENVIRONMENT if origins}
    training = study.training
    return Provenance(
        {
            "model": f"{study.model}, weights {first.model_hash if first else '?'}",
            "tasks": ", ".join(f"{c.task} ({_data(c)})" for c in results.contests.values() if c.adapter is None),
            "training": f"{training.steps} steps of {training.batch} x {training.length} tokens; AdamW, "
            f"no weight decay, gradients clipped at {GRADIENT_CLIP:g}, a tenth warm-up, then linear to zero",
            "precision": str(next(iter(results.contests.values())).resolved.precision),
            "seeds": f"tuned with {', '.join(map(str, study.tuning.seeds))}, reported with "
            f"{', '.join(map(str, study.report.seeds))}"
            + (f", regret with {', '.join(map(str, study.tuning.regret_seeds))}" if study.regret_sample else ""),
            "statistics": "paired by task, seed and batches; t intervals of 95 % from other seeds, another search for the "
            "learning rate and other test rows; Holm's correction over all pairs of ranked contestants in-domain, and over "
            "the contestants for forgetting at equal learning",
            **{key: ", ".join(values) for key, values in where.items()},
        }
    )


def _data(contest: Contest) -> str:
    return next(iter(contest.reported.values()))[0].data
