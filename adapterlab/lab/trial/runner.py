"""Run trials in this process: resolve each trial once, then train and score it.

>>> runner = Runner()
>>> runner.task("prose").name
'prose'
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from adapterlab import adapters, tasks
from adapterlab.errors import AdapterlabError
from adapterlab.input_files import InputFiles
from adapterlab.lab.trial import batched, train
from adapterlab.lab.trial.base_sums import changed, checksums
from adapterlab.lab.trial.context import TrialContext
from adapterlab.lab.trial.late_import import measuring
from adapterlab.lab.trial.precision import cast_base
from adapterlab.lab.trial.spec import FROZEN, Outcome, Trial
from adapterlab.lab.trial.train import OnTrained
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.models.loading import CAUSAL, Head, Loaded, load
from adapterlab.surgery import Handle
from adapterlab.tasks.base import Examples, Part, Question, Task
from adapterlab.tasks.encoder_decoder import is_encoder_decoder, with_one_answer
from adapterlab.tasks.files import task_of
from adapterlab.tasks.own_answers import give_answers, own_answers

NOT_SAVED = "full_ft"
"""Method whose trained weights are never saved by a study: they are as large as the model."""
ModelKey = tuple[str, str, str, Head]
"""Name, hash and precision of a model, and its head."""


@dataclass(frozen=True)
class _Base:
    """A model that trials share, with the checksums of its weights."""

    loaded: Loaded
    sums: Mapping[str, int]


@dataclass
class _Cache:
    """Models and prepared data that trials of one process share."""

    models: dict[ModelKey, _Base] = field(default_factory=dict)
    examples: dict[tuple[object, ...], Examples] = field(default_factory=dict)
    """By the key of the model, then what else decides them."""
    questions: dict[tuple[object, ...], Sequence[Question]] = field(default_factory=dict)
    """By the key of the model, then what else decides them."""

    def drop(self, key: ModelKey) -> None:
        """Forget a model and all that was computed with it."""
        del self.models[key]
        self.examples = {own: found for own, found in self.examples.items() if own[: len(key)] != key}
        self.questions = {own: found for own, found in self.questions.items() if own[: len(key)] != key}


class Runner:
    """Runs trials in this process, with the tasks, models and data that they share loaded once.

    Args:
        config: Settings of this process. Files that define adapters and tasks are loaded at once.

    Raises:
        AdapterlabError: If a file of the user's adapters, tasks or data cannot be read, or has changed since the scheduler
            read it.
    """

    def __init__(self, config: WorkerConfig | None = None) -> None:
        self.config = config or WorkerConfig()
        self._inputs = InputFiles(self.config.inputs)
        self._inputs.check()
        torch.set_num_threads(self.config.threads)
        for file in self.config.adapter_files:
            adapters.load_file(Path(file))
        for file in self.config.task_files:
            tasks.load_file(Path(file))
        self._tasks: dict[str, Task] = {data.name: task_of(data) for data in self.config.data}
        self._cache = _Cache()

    @property
    def device(self) -> torch.device:
        """Device that trials run on."""
        return torch.device(self.config.device)

    def with_settings(self, **changes: Any) -> Runner:
        """Return a runner with other settings that shares this one's models and data.

        Args:
            **changes: Fields of `WorkerConfig` with their new values.
        """
        other = Runner(replace(self.config, **changes))
        other._cache = self._cache
        return other

    def task(self, name: str) -> Task:
        """Return a task: one made of the user's data files, or a registered one.

        Args:
            name: The task's name.

        Raises:
            UnknownNameError: If there is no such task.
        """
        return self._tasks[name] if name in self._tasks else tasks.task(name)

    def context(self, trial: Trial) -> TrialContext:
        """Look up everything that a trial names.

        Args:
            trial: The trial to be run.

        Returns:
            The trial with its task, adapter, model, tokenizer and data.

        Raises:
            AdapterlabError: If the model cannot be loaded, or a file has changed by whose content the trial is named.
        """
        self._inputs.check()
        task = self.task(trial.task)
        model_key = trial.model, trial.model_hash, trial.precision, task.head
        loaded = self._model(model_key).loaded

        def examples(part: Part, count: int) -> Examples:
            # The data's fingerprint is part of the key: a file of the same name may have changed.
            # The model's hash is, since examples keep results of the model on them.
            key = (*model_key, trial.task, trial.data, part, trial.length, count)
            if key not in self._cache.examples:
                found = task.examples(Part(part), loaded.tokenizer, trial.length, count)
                if task.head == CAUSAL and is_encoder_decoder(loaded.model):
                    found = with_one_answer(found, loaded.tokenizer, task.name)
                self._cache.examples[key] = found
            return self._cache.examples[key]

        def questions(part: Part, count: int) -> Sequence[Question]:
            key = (*model_key, trial.task, trial.data, part, count)
            if key not in self._cache.questions:
                self._cache.questions[key] = task.questions(part, loaded.tokenizer, count)
            return self._cache.questions[key]

        adapter = None if trial.method == FROZEN else trial.build()
        scorer = task.scorer if trial.metric else None
        return TrialContext(
            trial, task, adapter, loaded.model, loaded.tokenizer, self.config, examples, questions, scorer
        )

    def run(self, trial: Trial, on_trained: OnTrained | None = None) -> Outcome:
        """Run one trial, and leave the model as it was.

        Where several processes share one model, each calls this with the same trial.

        Args:
            trial: The trial.
            on_trained: Called with the handle of the trained adapter before it is detached.

        Returns:
            The outcome; a divergence or a lack of memory is an outcome too. A trial that changed the weights of the base
            has failed: its scores are not those of its adapter alone.

        Raises:
            AdapterlabError: If the adapter cannot be attached to the model.
        """
        context = self.context(trial)
        saves = self.config.save_to and trial.rows and trial.seed == self.config.save_seed and trial.method != NOT_SAVED
        on_trained = on_trained or (partial(save_adapter, Path(self.config.save_to), trial) if saves else None)
        with self._checked([trial]) as failed:
            if trial.geometry:
                outcomes = [self._measured(context, on_trained)]
            elif self.config.ranks > 1:
                from adapterlab.lab.trial import sharded  # the libraries of distributed training take long to import

                outcomes = [sharded.run(context)]
            else:
                outcomes = [train.run(context, on_trained=on_trained)]
        return (failed or outcomes)[0]

    def _measured(self, context: TrialContext, on_trained: OnTrained | None) -> Outcome:
        """Run a trial, and measure its change of weights once the adapter is detached."""
        geometry, changes = measuring(), []
        if self.config.ranks > 1:
            raise AdapterlabError("geometry is not measured of a model that is divided over devices")

        def keep(handle: Handle) -> None:
            changes.append(geometry.change_in_memory(handle))
            if on_trained is not None:
                on_trained(handle)

        outcome = train.run(context, on_trained=keep)
        return geometry.with_geometry(outcome, context, changes[0]) if changes else outcome

    def run_batched(self, trials: Sequence[Trial]) -> list[Outcome]:
        """Run trials that differ only by learning rate and seed in one pass.

        Args:
            trials: Trials with the same `batched.batch_key`.

        Returns:
            Their outcomes, in the same order.

        Raises:
            RuntimeError: If the method cannot run under `torch.func.vmap`, or memory is short.
        """
        contexts = [self.context(trial) for trial in trials]
        with self._checked(trials) as failed:
            outcomes = batched.run(contexts)
        return failed or outcomes

    def clear(self) -> None:
        """Free the models and data that this runner has loaded."""
        self._cache.models.clear()
        self._cache.examples.clear()
        self._cache.questions.clear()

    @contextmanager
    def _checked(self, trials: Sequence[Trial]) -> Iterator[list[Outcome]]:
        """Check after some trials of one contestant that neither the files nor the base have changed.

        A base that was changed is dropped, however the trials end, so that the next trial loads it again. The list that is
        yielded is then filled with the outcomes of the trials in place of their own.
        """
        failed: list[Outcome] = []
        try:
            yield failed
        finally:
            first = trials[0]
            key = first.model, first.model_hash, first.precision, self.task(first.task).head
            if paths := changed(self._model(key).loaded.model, self._model(key).sums):
                self._cache.drop(key)
                failed += [_changed_base(trial, paths) for trial in trials]
        self._inputs.check()  # data are read while the first trial runs

    def _model(self, key: ModelKey) -> _Base:
        name, model_hash, precision, head = key
        if key not in self._cache.models:
            # The hash of a model on the hub names its commit; that of another model holds no @.
            loaded = load(model_hash if "@" in model_hash else name, head)
            if head.kind == "causal":
                give_answers(loaded.tokenizer, own_answers(name, model_hash, loaded))
            cast(Any, loaded.model).config.use_cache = False  # a key-value cache serves generation and takes memory
            # A model that is sharded stays in main memory until it is divided.
            device = self.config.device if self.config.ranks == 1 else "cpu"
            cast_base(loaded.model, precision)
            model = loaded.model.to(device=device)
            self._cache.models[key] = _Base(Loaded(model, loaded.tokenizer), checksums(model))
        return self._cache.models[key]


def save_adapter(folder: Path, trial: Trial, handle: Handle) -> None:
    """Save the trained adapter of a trial, whole or not at all.

    Args:
        folder: Folder of saved adapters; each is in a folder with the name of its trial's id.
        trial: The trial.
        handle: The trained adapter.
    """
    partial_folder, whole = folder / f".{trial.id}-{os.getpid()}", folder / trial.id
    handle.save(partial_folder)
    if whole.exists():  # saved by a run that ended before its outcome was recorded
        shutil.rmtree(whole)
    partial_folder.rename(whole)


def _changed_base(trial: Trial, paths: Sequence[str]) -> Outcome:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    note = (
        f"{trial.method} changed the base model itself ({paths[0]}{more}), which all contestants share; it was loaded again "
        "for the others. Let init and forward work on copies: weight.clone()"
    )
    return Outcome("failed", {}, (), 0, 0.0, 0.0, note)
