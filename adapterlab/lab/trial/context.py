"""Everything that the names in a trial refer to, looked up once and passed to the code that trains and scores.

>>> from adapterlab.lab.trial.runner import Runner
>>> Runner().device
device(type='cpu')
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import nn

from adapterlab.adapters.base import Adapter
from adapterlab.lab.trial.precision import autocast
from adapterlab.lab.trial.spec import Trial
from adapterlab.lab.trial.suspension import running_seconds
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.tasks.answer_metrics import Scorer
from adapterlab.tasks.base import Examples, Part, Question, Task

EVERY_EXAMPLE = 1 << 30
"""A number of examples that no task exceeds."""


class Stopwatch:
    """Adds up the time spent in `with` blocks; blocks may be nested.

    >>> watch = Stopwatch()
    >>> with watch, watch:
    ...     pass
    >>> 0 < watch.seconds < 1
    True
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        """Seconds so far, without a block that is still open."""
        self._depth, self._started = 0, 0.0

    def __enter__(self) -> None:
        if self._depth == 0:
            self._started = running_seconds()
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += running_seconds() - self._started


@dataclass(frozen=True)
class TrialContext:
    """A trial with its task, adapter, model, tokenizer, data and device."""

    trial: Trial
    task: Task
    adapter: Adapter | None
    """None for the frozen model."""
    model: nn.Module
    processor: Any
    """The model's tokenizer or image processor."""
    config: WorkerConfig
    load_examples: Callable[[Part, int], Examples]
    """Prepare at most this number of examples of a part; cached by the caller."""
    load_questions: Callable[[Part, int], Sequence[Question]]
    """Prepare at most this number of prompts of a part for the metric of generated answers; cached by the caller."""
    scorer: Scorer | None = None
    """The user's scorer, if the trial's metric is one."""
    scoring: Stopwatch = field(default_factory=lambda: Stopwatch(), compare=False)
    """Time that the trial has spent on scoring, generating included."""
    generating: Stopwatch = field(default_factory=lambda: Stopwatch(), compare=False)
    """Time that the trial has spent on generating answers and scoring them."""

    @property
    def device(self) -> torch.device:
        """Device that the trial runs on."""
        return torch.device(self.config.device)

    def autocast(self) -> torch.autocast:
        """Return the context for code that runs the model: autocast if the trial's precision asks for it."""
        return autocast(self.device, self.trial.precision)

    @property
    def can_merge(self) -> bool:
        """True if the model's weights can be merged with an adapter's: no other process holds a share of them."""
        return self.config.ranks == 1

    @property
    def path_windows(self) -> int:
        """Examples scored of each part along the strength path, at most."""
        return min(self.trial.path_windows or self.trial.windows, self.trial.windows)

    @property
    def scores_fewer_on_path(self) -> bool:
        """True if there is a strength path and it is scored on fewer examples than full strength is."""
        return bool(self.trial.path) and self.path_windows < self.trial.windows

    @cached_property
    def training_data(self) -> Examples:
        """Training examples: all of them, or the first `trial.share` of them in the order of a hash."""
        data = self.load_examples(Part.TRAIN, EVERY_EXAMPLE)
        if self.trial.share == 1:
            return data
        return Examples(data.rows(slice(0, max(1, round(self.trial.share * len(data))))), data.size)
