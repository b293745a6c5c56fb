"""Results in the form that PEFT's own benchmark reads (`method_comparison` in its repository), with our intervals.

There is one file for each contestant on each task. The reader of PEFT takes the folder of a task as one of its benchmarks,
such as MetaMathQA. Fields that its reader needs and a study does not measure are null where the reader allows that;
`adapterlab.notes` in each file explains the others. Means are over the reported runs.

>>> peft_type("lora"), peft_type("peft:HIRA")
('LORA', 'HIRA')
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from typing import Any

from adapterlab.adapters.peft_config import PREFIX
from adapterlab.files import write_text
from adapterlab.lab.analysis.contrast import value
from adapterlab.lab.analysis.effects import Effects
from adapterlab.lab.analysis.metrics import ANSWERS_IN_DOMAIN, by_cell, by_unit
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.statistics import Paired
from adapterlab.lab.study.spec import FULL_FT
from adapterlab.lab.trial.spec import Outcome, Trial
from adapterlab.report.verdict_json import finite
from adapterlab.verdict.from_ledger import FinishedPart

BYTES = 4
"""Bytes of a trained parameter in a saved adapter."""
NOTES = {
    "test accuracy": "mean metric of the generated answers if the task has one, else the share of tokens predicted rightly",
    "forgetting": "increase of the loss on text of the base model's own domain, in the study's unit of loss",
    "accelerator memory": "memory of a training step beyond the model's own, for all three fields",
    "file_size": "4 bytes for each trained parameter",
    "train total tokens": "most tokens that the examples may have",
    "train loss": "not recorded; validation losses during training are in the earlier metrics",
}
"""Meaning of the fields that differ from PEFT's benchmark."""
Json = dict[str, Any]


@dataclass(frozen=True)
class ResultFile:
    """One file."""

    task: str
    """Task, which names the folder."""
    name: str
    """Name of the file, without its ending."""
    content: Json

    @property
    def text(self) -> str:
        """Content of the file."""
        return json.dumps(self.content, indent=2, allow_nan=False) + "\n"


def write_results(files: list[ResultFile], folder: Path) -> list[Path]:
    """Write the files, those of a task in a folder of its name.

    Args:
        files: The files.
        folder: Where to write them; made if it does not exist.

    Returns:
        The paths of the files.
    """
    paths = [folder / file.task / f"{file.name}.json" for file in files]
    for file, path in zip(files, paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, file.text)
    return paths


def result_files(found: FinishedPart, ledger: Ledger) -> list[ResultFile]:
    """Return the results of a study in PEFT's form.

    Args:
        found: Its finished contests.
        ledger: The ledger that they were read from.
    """
    times, environments = ledger.times(), {trial.id: environment for trial, _, environment in ledger}
    files = []
    for results in by_cell(found.contests):
        for part in by_unit(results):
            effects = Effects.of(part)
            for name in part.contestants:
                for task in part.study.tasks:
                    contest = part.contests[name, task]
                    if runs := [run for run in contest.reported.values() if run[1].status == "ok"]:
                        origin = environments[runs[0][0].id]
                        ended = max(times[trial.id] for trial, _ in runs)
                        content = _content(effects, contest, runs, origin, ended, found.prepared.model_parameters)
                        files.append(ResultFile(task, _file_name(contest), content))
    return files


def peft_type(method: str) -> str:
    """Return the name that PEFT's tables show for a method.

    Args:
        method: Name of an adapter.
    """
    return method.removeprefix(PREFIX).upper()


def _file_name(contest: Contest) -> str:
    cell = f"-{contest.resolved.cell.slug}" if contest.resolved.cell.levels else ""
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in contest.contestant)
    return f"{name}--{contest.study.name}{cell}"


def _content(
    effects: Effects,
    contest: Contest,
    runs: list[tuple[Trial, Outcome]],
    origin: Mapping[str, str],
    ended: str,
    model_parameters: int,
) -> Json:
    trial, outcomes = runs[0][0], [outcome for _, outcome in runs]
    settings = json.loads(trial.adapter)
    method = str(settings.pop("name"))
    peak = round(fmean(outcome.peak_bytes for outcome in outcomes))
    parameters = outcomes[0].parameters
    estimates = {
        key: effects.estimate(value(contest.contestant, metric), [contest.task])
        for key, metric in {
            "answers": ANSWERS_IN_DOMAIN,
            "token_accuracy": "accuracy",
            "loss": "in_domain",
            "loss_out_of_domain": "out_of_domain",
            "forgetting": "forgetting",
        }.items()
    }
    accuracy = estimates["answers"] if estimates["answers"].n else estimates["token_accuracy"]
    samples = trial.steps * trial.batch
    last = {
        "step": trial.steps,
        "test accuracy": finite(accuracy.mean),
        "train loss": None,
        "train samples": samples,
        "train total tokens": samples * trial.length,
        "forgetting": finite(estimates["forgetting"].mean),
    }
    return {
        "run_info": {
            "created_at": ended.replace("Z", "+00:00"),
            "total_time": fmean(
                o.seconds + o.attach_seconds + o.scoring_seconds + o.generating_seconds for o in outcomes
            ),
            "experiment_name": f"{contest.contestant}/{_file_name(contest)}",
            "peft_branch": f"adapterlab {origin.get('adapterlab', 'unknown')}",
            "train_config": _train_config(trial, contest),
            "peft_config": None
            if method == FULL_FT
            else {"peft_type": peft_type(method), "adapter": method, **settings},
            "error_msg": "",
        },
        "train_info": {
            "accelerator_memory_reserved_avg": peak,
            "accelerator_memory_max": peak,
            "accelerator_memory_reserved_99th": peak,
            "train_time": fmean(outcome.seconds for outcome in outcomes),
            "file_size": BYTES * parameters,
            "num_trainable_params": parameters,
            "num_total_params": model_parameters + (0 if method == FULL_FT else parameters),
            "status": "success",
            "metrics": [*_curve(trial, outcomes), last],
        },
        "meta_info": {
            "model_info": {"sha": trial.model_hash, "created_at": None},
            "dataset_info": {contest.task: {"sha": trial.data, "created_at": None}},
            "package_info": {
                "transformers-version": origin.get("transformers"),
                "peft-version": _installed("peft") if method.startswith(PREFIX) else None,
                "datasets-version": None,
                "bitsandbytes-version": None,
                "torch-version": origin.get("torch"),
            },
            "system_info": {
                "system": origin.get("system"),
                "machine": origin.get("machine"),
                "accelerator": origin.get("device"),
            },
        },
        "adapterlab": {
            "study": contest.study.name,
            "unit": effects.results.unit,
            "estimates": {key: _estimate(effect) for key, effect in estimates.items() if effect.n},
            "seeds": [each.seed for each, _ in runs],
            "trials": [each.id for each, _ in runs],
            "notes": NOTES,
        },
    }


def _train_config(trial: Trial, contest: Contest) -> Json:
    return {
        "model_id": trial.model,
        "dtype": trial.precision,
        "max_seq_length": trial.length,
        "batch_size": trial.batch,
        "max_steps": trial.steps,
        "seed": trial.seed,
        "optimizer_kwargs": {"lr": trial.lr},
        "targets": trial.targets,
        "tuned": {"steps": contest.tuning_steps, "flag": str(contest.search_flag.value)},
    }


def _curve(trial: Trial, outcomes: list[Outcome]) -> Iterator[Json]:
    """Yield the mean validation losses during training."""
    for step in sorted({step for outcome in outcomes for step, _ in outcome.curve}):
        losses = [loss for outcome in outcomes for at, loss in outcome.curve if at == step]
        yield {"step": step, "valid loss": finite(fmean(losses)), "train samples": step * trial.batch}


def _estimate(effect: Paired) -> Json:
    return {"mean": finite(effect.mean), "low": finite(effect.low), "high": finite(effect.high), "runs": effect.n}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
