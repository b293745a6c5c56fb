"""A model so small that a whole study of it takes seconds, saved where workers can load it.

The reported runs are long enough that a study can be stopped in its middle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.utils.logging import disable_progress_bar

from adapterlab.lab.ledger.store import Ledger
from adapterlab.models.corpus import documents
from adapterlab.models.pretrain import train_tokenizer
from tests.conftest import tiny_llama

STUDY = """name = "tiny"
model = "{model}"
tasks = ["prose"]
budget = 3000
full_ft = false
full_ft_reason = "seconds count in a test"

[training]
steps = {steps}
batch = 2
length = 32

[tuning]
regret_sample = 1

[report]
seeds = [1, 2]
windows = 8
curve_every = {curve_every}

[[contestants]]
adapter = "lora"

[[contestants]]
adapter = "ia3"
"""


def save_model(folder: Path) -> Path:
    """A tiny Llama with a tokenizer of 300 tokens."""
    disable_progress_bar()
    tokenizer = train_tokenizer(documents("heldout")[:5], 300)
    tiny_llama(vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_study(folder: Path, steps: int = 40, more: str = "") -> Path:
    """The model and a study of it, whose reported runs have so many steps; `more` is put at its end."""
    model = save_model(folder / "model")
    path = folder / "tiny.toml"
    path.write_text(STUDY.format(model=model, steps=steps, curve_every=max(1, steps // 3)) + more)
    return path


def what_counts(ledger: Ledger) -> dict[str, Any]:
    """The ledger without the times that differ from run to run."""
    return {t.id: (o.status, o.scores, o.curve, o.parameters, o.note) for t, o, _ in ledger}
