"""Everything that the names in a trial refer to, looked up once and passed to the code that trains and scores.

>>> from adapterlab.lab.trial.runner import Runner
>>> Runner().device
device(type='cpu')
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from adapterlab.adapters.base import Adapter
from adapterlab.lab.trial.spec import Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.tasks.base import Examples, Part, Task

EVERY_EXAMPLE = 1 << 30
"""A number of examples that no task exceeds."""


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

    @property
    def device(self) -> torch.device:
        """Device that the trial runs on."""
        return torch.device(self.config.device)

    def scored(self, part: Part) -> Examples:
        """Return the examples that a part is scored on, at most `trial.windows`.

        Args:
            part: A part of the task other than training.
        """
        return self.load_examples(part, self.trial.windows)

    @cached_property
    def training_data(self) -> Examples:
        """Training examples: all of them, or the first `trial.share` of them in the order of a hash."""
        data = self.load_examples(Part.TRAIN, EVERY_EXAMPLE)
        if self.trial.share == 1:
            return data
        return Examples(data.rows(slice(0, max(1, round(self.trial.share * len(data))))), data.size)
