"""Training computes no logit and no probability of a token that is not scored, and no column of padding."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adapterlab.adapters import adapter
from adapterlab.lab.trial.train import backward
from adapterlab.surgery import attach
from adapterlab.tasks import task
from adapterlab.tasks.files import FileData
from adapterlab.tasks.text import TextTask
from adapterlab.tasks.user_text import UserText
from tests.conftest import tiny_llama

VOCABULARY = 61
"""No other dimension of the model has this size."""
HIDDEN = 32


class RowsOfLogits(TorchDispatchMode):
    """Notes how many rows of vocabulary width each operation returns, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in found if isinstance(found, tuple) else (found,):
            if isinstance(tensor, torch.Tensor) and tensor.ndim and tensor.shape[-1] == VOCABULARY:
                rows = tensor.numel() // VOCABULARY
                self.most = max(self.most, 0 if rows == HIDDEN else rows)  # the head's weight has that many
        return found


def text_batch(prompt: int, answers: tuple[int, ...], prefix: str = "") -> dict[str, torch.Tensor]:
    """Rows of a prompt and an answer of each length, padded on the right."""
    width = prompt + max(answers) + 5
    at, ends = torch.arange(width), torch.tensor([prompt + n for n in answers])[:, None]
    ids = torch.randint(0, VOCABULARY, (len(answers), width), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": ids, "scored": (at >= prompt) & (at < ends), "attention_mask": (at < ends).long()}
    return {f"{prefix}{name}": tensor for name, tensor in inputs.items()}


CASES = {
    "completions": (task("facts"), text_batch(12, (3, 1, 4))),
    "user text": (UserText(FileData("mine", "rows.jsonl")), text_batch(12, (3, 1, 4))),
    "preferences": (task("steer"), text_batch(9, (3, 2), "chosen_") | text_batch(9, (1, 3), "rejected_")),
}


@pytest.mark.parametrize("name", CASES)
def test_training_has_no_logit_of_a_prompts_tokens(name):
    its_task, batch = CASES[name]
    model = tiny_llama(vocab_size=VOCABULARY)
    handle = attach(model, adapter("lora", rank=2))
    terms = [int(mask.sum()) for key, mask in batch.items() if key.endswith("scored")]
    with RowsOfLogits() as seen:
        backward(its_task, model, batch, None, handle)
    assert seen.most == max(terms)
    assert all(parameter.grad is not None for parameter in handle.parameters())


def test_all_text_tasks_have_the_same_loss():
    assert UserText.loss is TextTask.loss


def test_training_cuts_off_the_padding_of_a_batch():
    model, widths = tiny_llama(vocab_size=VOCABULARY), []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: widths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    its_task, batch = CASES["completions"]
    backward(its_task, model, batch, None, attach(model, adapter("lora", rank=2)))
    assert widths == [16]
