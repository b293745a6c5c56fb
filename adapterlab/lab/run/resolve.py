"""Look up everything that a study names, once: its tasks, the fingerprints of their data, and its model's hash.

>>> from adapterlab.lab.study.spec import Contestant, Study
>>> study = Study(name="mine", tasks=("prose",), contestants=(Contestant(adapter="lora"),))
>>> resolve(study).tasks["prose"].unit
'nats per byte'
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from adapterlab.adapters.base import Adapter
from adapterlab.input_files import FileStamp
from adapterlab.lab.run.precision_choice import PrecisionChoice
from adapterlab.lab.run.rate_priors import Start, rate_priors
from adapterlab.lab.study.check_geometry import check_geometry
from adapterlab.lab.study.load import load_files
from adapterlab.lab.study.spec import Study
from adapterlab.lab.study.sweep import Cell
from adapterlab.lab.trial.code_version import (
    code_version,
    decisive_stamps,
    geometry_stamps,
    geometry_version,
    scorer_code,
)
from adapterlab.lab.trial.spec import FROZEN, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.models.fingerprint import EMBEDDED, fingerprint, model_stamps
from adapterlab.models.width import width
from adapterlab.tasks import task
from adapterlab.tasks.base import Part, Task
from adapterlab.tasks.files import forget_changed, parts_of, task_of
from adapterlab.tasks.own_answers import name_of, own_answers


class BaseModel(NamedTuple):
    """Facts about a base model that its name refers to."""

    hash: str
    width: int | None = None
    """Width of the model, for the prior learning rates; None if unknown."""
    answers: str = ""
    """Hash of a chat model's own answers, which `Part.BASE` of some tasks scores; empty if there are none."""


@dataclass(frozen=True)
class ResolvedStudy:
    """A study with the tasks, data and models that its names refer to."""

    study: Study
    """The study; one of its cells if `cell` has levels."""
    tasks: Mapping[str, Task]
    """By name, every task of the study."""
    data: Mapping[str, str]
    """By task, the fingerprint of its data."""
    models: Mapping[str, BaseModel]
    """By name, every base model of the study."""
    cell: Cell = field(default_factory=Cell)
    """Levels of the factors that the whole study sweeps."""
    chosen: PrecisionChoice | None = None
    """The precision that was chosen by a check; None if the study gives it, or before it is prepared."""

    @property
    def precision(self) -> PrecisionChoice:
        """Precision of the study's trials; not decided if the study leaves it open and is not prepared."""
        return self.chosen or PrecisionChoice.of(self.study.training.precision)

    @cached_property
    def cells(self) -> tuple[ResolvedStudy, ...]:
        """The study at each cell of its sweep, the main cell last."""
        return tuple(replace(self, study=self.study.at(cell), cell=cell) for cell in self.study.sweep.cells)

    @property
    def main(self) -> ResolvedStudy:
        """The study at the main cell of its sweep."""
        return self.cells[-1]

    @property
    def model_hash(self) -> str:
        """Hash of the model's weights, configuration and tokenizer."""
        return self.models[self.study.model].hash

    @property
    def width(self) -> int | None:
        """Width of the model; None if unknown."""
        return self.models[self.study.model].width

    def unit(self, task: str) -> str:
        """Return the unit of a task's loss.

        Args:
            task: Name of the task.
        """
        return self.tasks[task].unit

    def start(self, contestant: str, adapter: Adapter | None) -> Start:
        """Return the rate at which the search for a contestant's learning rate starts.

        That is the contestant's own `start`, or the method's prior rate, or the study's `tuning.start`. A prior is trusted
        on the model that it was learned on, for the usual settings and targets of a method, and a similar length of runs.

        Args:
            contestant: Name of the contestant.
            adapter: The adapter after sizing; None for the frozen model.
        """
        entry = next((entry for entry in self.study.entrants if entry.name == contestant), None)
        known = None if adapter is None else rate_priors().get(adapter.name)
        if entry is not None and entry.start is not None:
            return Start(entry.start)
        if adapter is None or known is None:
            return Start(self.study.tuning.start)
        settings, steps = adapter.settings(), self.study.tuning.first_steps(self.study.training.steps)
        here = self._is_embedded and (entry is None or entry.targets == "all-linear")
        return Start(known.at(settings, self.width), here and known.trusted(settings, steps))

    @cached_property
    def _is_embedded(self) -> bool:
        """True for the model that the prior rates were learned on."""
        return self.model_hash == fingerprint(EMBEDDED)

    @cached_property
    def inputs(self) -> tuple[FileStamp, ...]:
        """Files by whose content the study's trials are named, as they were when they were read."""
        methods = {FROZEN, *(entry.build().name for entry in self.study.entrants)}
        code = [
            stamp for name in sorted(methods) for task in self.tasks.values() for stamp in decisive_stamps(name, task)
        ]
        models = [stamp for name in self.models for stamp in model_stamps(name)]
        data = [stamp for entry in self.study.data if entry.name in self.tasks for stamp in parts_of(entry.files).files]
        code += [] if self.study.geometry is None else geometry_stamps()
        scorers = [stamp for _, stamps in self._scorers.values() for stamp in stamps]
        return tuple({stamp.path: stamp for stamp in (*code, *models, *data, *scorers)}.values())

    @cached_property
    def _scorers(self) -> Mapping[str, tuple[str, tuple[FileStamp, ...]]]:
        """By task with a scorer of the user, the hash of its code and the stamps of its files."""
        return {name: scorer_code(task.scorer) for name, task in self.tasks.items() if task.scorer is not None}

    def worker_config(self) -> WorkerConfig:
        """Return the settings of a worker that runs the study's trials, on a CPU until a device is chosen."""
        study = self.study
        return WorkerConfig(
            study.adapter_files,
            study.task_files,
            tuple(entry.files for entry in study.data),
            micro_batch=study.limits.micro_batch,
            checkpointing=study.limits.checkpointing,
            inputs=self.inputs,
        )

    def trial(
        self,
        task: str,
        adapter: Adapter | None,
        targets: str | tuple[str, ...],
        lr: float,
        seed: int,
        steps: int,
        *,
        reported: bool,
        all_parts: bool = False,
        share: float = 1.0,
        contestant: str = "",
    ) -> Trial:
        """Return a trial of this study.

        Args:
            task: Name of the task.
            adapter: The adapter after sizing; None for the frozen model.
            targets: Modules that the adapter is attached to.
            lr: Peak learning rate.
            seed: Seed of the run.
            steps: Optimizer steps.
            reported: True for a run whose scores are reported: it is scored on all parts and along the strength path, and
                the loss of each row is recorded; a task with a metric has its prompts answered. Other runs are
                scored on the validation part alone.
            all_parts: True to score another run on all parts too, so that the response of every metric to the rate is known.
            share: Share of the training data used.
            contestant: Name of the contestant; the geometry of its reported runs is measured if the study asks for it.
        """
        study = self.study
        parts = self.tasks[task].parts if reported or all_parts else (Part.VALIDATION,)
        settings = {"name": FROZEN} if adapter is None else adapter.settings()
        path = study.report.path if reported and share == 1 else ()
        return Trial(
            model=study.model,
            model_hash=self.model_hash,
            task=task,
            data=self.data_of(task, study.model),
            adapter=json.dumps(settings, sort_keys=True),
            targets=targets,
            lr=lr,
            seed=seed,
            steps=steps,
            batch=study.training.batch,
            length=study.training.length,
            parts=tuple(part.value for part in parts),
            windows=study.report.windows,
            curve_every=study.report.curve_every if reported else 0,
            code=code_version(str(settings["name"]), self.tasks[task]),
            precision=self.precision.precision,
            path=path,
            share=share,
            path_windows=study.report.path_rows if path else 0,
            rows=reported,
            **(self._answers(task) if reported and share == 1 else {}),
            geometry=self.geometry_of(contestant) if reported and share == 1 else "",
        )

    def geometry_of(self, contestant: str) -> str:
        """Return what is measured of a contestant's changes of weights, as JSON; empty if nothing is.

        Args:
            contestant: Name of the contestant.
        """
        table = self.study.geometry
        if table is None or contestant not in table.of:
            return ""
        return json.dumps({**table.spec(self.study.budget), "code": geometry_version()}, sort_keys=True)

    def _answers(self, task: str) -> dict[str, Any]:
        """Return the fields of a trial about its metric; none for a task without one."""
        found, scorer = self.tasks[task], self.tasks[task].scorer
        if not found.metric:
            return {}
        return {
            "metric": found.metric if scorer is None else scorer.name,
            "scorer": self._scorers[task][0] if scorer is not None else "",
            "max_new_tokens": found.max_new_tokens,
            "metric_rows": self.study.report.metric_rows,
        }

    def data_of(self, task: str, model: str) -> str:
        """Return the fingerprint of a task's data, with that of the model's own answers if the task scores them.

        Args:
            task: Name of the task.
            model: Name of one of the study's models.
        """
        answers = self.models[model].answers if self.tasks[task].scores_answers else ""
        return f"{self.data[task]}, own answers {answers}" if answers else self.data[task]


def resolve(study: Study) -> ResolvedStudy:
    """Look up everything that a study names.

    Args:
        study: A valid study.

    Returns:
        The study with its tasks, the fingerprints of their data, and the hashes of its models.

    Raises:
        AdapterlabError: If a file of adapters, tasks or data cannot be read, a task is not known, or the geometry of a
            contestant cannot be measured.
    """
    load_files(study)
    check_geometry(study)
    for entry in study.data:
        forget_changed(entry.files)
    own = {entry.name: task_of(entry.files) for entry in study.data}
    tasks = {name: own[name] if name in own else task(name) for name in study.tasks}
    scored = any(task.scores_answers for task in tasks.values())
    return ResolvedStudy(
        study,
        tasks,
        {name: task.fingerprint() for name, task in tasks.items()},
        {name: _base_model(name, scored) for name in study.sweep.models or (study.model,)},
    )


def _base_model(name: str, answers: bool) -> BaseModel:
    found = fingerprint(name)
    return BaseModel(found, width(name), name_of(own_answers(name, found)) if answers else "")
