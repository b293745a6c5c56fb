"""A trainer of transformers on random tokens, on the CPU, with everything optional switched off."""

from __future__ import annotations

import warnings

import pytest
import torch
from transformers import Trainer, TrainingArguments

ROWS = [
    {"input_ids": row, "labels": row}
    for row in torch.randint(0, 64, (16, 12), generator=torch.Generator().manual_seed(7))
]


@pytest.fixture(autouse=True)
def without_the_librarys_own_warnings():
    """Trainer's data loader warns of pinned memory on a machine without an accelerator."""
    warnings.filterwarnings("ignore", message=".*pin_memory.*")


@pytest.fixture
def trainer(tmp_path):
    """Return a function that makes a trainer whose output folder is `tmp_path / name`."""

    def make(model, name="run", *, callbacks=(), rows=ROWS, eval_rows=None, optimizer=None, **settings):
        defaults = {
            "max_steps": 6,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-2,
            "save_strategy": "no",
            "logging_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
            "use_cpu": True,
            "dataloader_pin_memory": False,
            "seed": 3,
        }
        args = TrainingArguments(str(tmp_path / name), **(defaults | settings))
        extra = {} if optimizer is None else {"optimizer_cls_and_kwargs": optimizer(args)}
        return Trainer(model, args, train_dataset=rows, eval_dataset=eval_rows, callbacks=list(callbacks), **extra)

    return make
