"""What a process must know before it runs trials; none of it decides what comes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from adapterlab import adapters, tasks
from adapterlab.tasks.files import FileData, task_of


@dataclass(frozen=True)
class WorkerConfig:
    """A worker's surroundings. It is pickled to every worker, which enters it once."""

    adapter_files: Sequence[str] = ()
    """Python files that define adapters."""
    task_files: Sequence[str] = ()
    """Python files that define tasks."""
    data: Sequence[FileData] = ()
    """Tasks made of a user's files."""
    device: str = "cpu"
    threads: int = 1
    """One, so that what comes of a trial does not depend on the machine's cores."""
    micro_batch: int | None = None
    """Examples in one pass, where a whole batch does not fit; gradients are summed up to the batch."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass, to hold less memory."""

    rank: int = 0
    """Of this process among the `ranks` that share one model."""
    ranks: int = 1
    meeting: str = ""
    """The file through which these find each other."""

    def enter(self) -> None:
        """Make this process ready."""
        global _current
        torch.set_num_threads(self.threads)
        for file in self.adapter_files:
            adapters.load_file(Path(file))
        for file in self.task_files:
            tasks.load_file(Path(file))
        for data in self.data:
            tasks.add_task(task_of(data))
        _current = self
        if self.ranks > 1:
            from adapterlab.lab.trial import sharded

            sharded.join(self)


_current = WorkerConfig()


def current() -> WorkerConfig:
    """What this process entered last; a CPU and nothing else if it entered nothing."""
    return _current
