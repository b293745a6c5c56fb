"""Checks of one method on one architecture under transformers' Trainer and TRL."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import trl
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast, Trainer, TrainingArguments

from adapterlab.adapters.base import Adapter
from adapterlab.surgery import load
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.trainer.callback import TrainerCallback
from tests.matrix.architectures import Architecture
from tests.matrix.checks import NotApplicableError, adapted, attached

QUIET: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "save_steps": 2,
    "logging_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
    "use_cpu": True,
    "dataloader_pin_memory": False,
    "bf16": False,  # TRL's default, under which calls of the model stay in autocast
}
LABELS = {"Bert": torch.tensor([0, 1]), "ViT": torch.tensor([0, 1])}
WORDS = [f"w{i}" for i in range(64)]


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="w1"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="w0", eos_token="w2", bos_token="w3", unk_token="w1"
    )


def rows_of(name: str, architecture: Architecture) -> list[dict[str, torch.Tensor]]:
    """Training rows with labels, one for each row of the architecture's inputs."""
    inputs = dict(architecture.inputs)
    if name == "Siglip":
        raise NotApplicableError  # no loss
    if name == "CLIP":
        pass  # its loss needs no labels
    elif architecture.kind == "seq2seq":
        inputs["labels"] = inputs.pop("decoder_input_ids")
    elif name == "DebertaV2":
        inputs["labels"] = inputs["input_ids"] % 2
    else:
        inputs["labels"] = LABELS.get(name, inputs.get("input_ids"))
    return [{key: value[i] for key, value in inputs.items()} for i in range(2)]


def values(handle: Handle) -> list[torch.Tensor]:
    return [p.detach().clone() for p in handle.parameters()]


def moved(handle: Handle, before: list[torch.Tensor]) -> bool:
    return any(not torch.equal(p, old) for p, old in zip(handle.parameters(), before, strict=True))


def _trained(trainer: Any, model: nn.Module, handle: Handle, architecture: Architecture, folder: str) -> None:
    before = values(handle)
    base = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = trainer.train()
    assert torch.isfinite(torch.tensor(result.training_loss)), "the loss is not finite"
    assert moved(handle, before), "nothing was trained"
    assert all(torch.equal(model.get_parameter(name), old) for name, old in base.items()), "the base was changed"
    model.eval()
    with torch.no_grad():
        answer = architecture.run(model)
        checkpoint = Path(folder) / "checkpoint-2"
        assert not list(checkpoint.glob("pytorch_model*")), "a checkpoint holds the whole model"
        other = architecture.make()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".* leaves out ")
            load(other, checkpoint)
        assert torch.equal(architecture.run(other), answer), "the checkpoint differs from what was trained"


def under_trainer(architecture: Architecture, method: Adapter) -> None:
    rows = rows_of(architecture.name, architecture)
    model, handle = adapted(architecture, method, 0.02)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, **QUIET, remove_unused_columns=False)

        def collate(batch: list[dict[str, torch.Tensor]]) -> dict[str, Any]:
            stacked: dict[str, Any] = {key: torch.stack([row[key] for row in batch]) for key in batch[0]}
            return stacked | ({"return_loss": True} if architecture.name == "CLIP" else {})

        trainer = Trainer(model, arguments, collate, rows, callbacks=[TrainerCallback(handle)])
        _trained(trainer, model, handle, architecture, folder)


def under_sft(architecture: Architecture, method: Adapter) -> None:
    if architecture.kind not in ("decoder", "state space"):
        raise NotApplicableError
    model, handle = adapted(architecture, method, 0.02)
    rows = Dataset.from_list([{"text": "w5 w9 w33 w12 w40"}, {"text": "w11 w30 w6 w44"}])
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = trl.SFTConfig(folder, max_length=16, gradient_checkpointing=False, **QUIET)
        trainer = trl.SFTTrainer(
            model, args=arguments, train_dataset=rows, processing_class=tokenizer(), callbacks=[TrainerCallback(handle)]
        )
        _trained(trainer, model, handle, architecture, folder)


def under_dpo(architecture: Architecture, method: Adapter) -> None:
    """At rate 0 the loss is log 2 if the adapter starts as the base, and the reference is the model without it."""
    if architecture.kind not in ("decoder", "state space"):
        raise NotApplicableError
    model = architecture.make()
    handle = attached(model, method)
    rows = Dataset.from_list([{"prompt": "w5 w9", "chosen": " w33 w12 w40", "rejected": " w11 w30"}] * 2)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = QUIET | {"learning_rate": 0.0, "max_steps": 1, "save_strategy": "no"}
        arguments = trl.DPOConfig(folder, gradient_checkpointing=False, **settings)
        trainer = trl.DPOTrainer(
            model,
            ref_model=handle.reference(),
            args=arguments,
            train_dataset=rows,
            processing_class=tokenizer(),
            callbacks=[TrainerCallback(handle)],
        )
        loss = trainer.train().training_loss
    if method.starts_as_base and not method.draws_in_training:
        penalty = handle.regularizer()
        assert penalty is None or penalty.isfinite()
        assert abs(loss - 0.6931) < 5e-3, f"the loss at rate 0 is {loss:.4f}"
