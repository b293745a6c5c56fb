"""Settings of a worker process. None of them decides the outcome of a trial.

>>> WorkerConfig(threads=2).device
'cpu'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from adapterlab.input_files import FileStamp
from adapterlab.tasks.files import FileData


@dataclass(frozen=True)
class WorkerConfig:
    """Settings of a worker process, pickled to it when it starts."""

    adapter_files: Sequence[str] = ()
    """Python files that define adapters."""
    task_files: Sequence[str] = ()
    """Python files that define tasks."""
    data: Sequence[FileData] = ()
    """Data files of the user, one entry for each task made of them."""
    device: str = "cpu"
    """Device in torch's notation."""
    threads: int = 1
    """CPU threads of torch; one, so that outcomes do not depend on the machine's number of cores."""
    micro_batch: int | None = None
    """Examples in one forward pass where a whole batch does not fit in memory; gradients are summed up to the batch."""
    checkpointing: bool = False
    """True to recompute activations in the backward pass (gradient checkpointing), which takes less memory."""
    inputs: Sequence[FileStamp] = ()
    """Files that name the trials by their content: code, data and models, as the scheduler read them."""
    save_to: str = ""
    """Folder to which the trained adapters of reported runs are saved, each by the id of its trial; empty to save none."""
    save_seed: int = 1
    """Seed of the runs whose adapters are saved."""
    rank: int = 0
    """Index of this process among the `ranks` processes that share one model."""
    ranks: int = 1
    """Number of processes that share one model."""
    rendezvous: str = ""
    """File through which the processes that share a model find each other."""
