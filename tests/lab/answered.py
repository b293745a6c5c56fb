"""A tiny study whose task has a metric: the right answer is always the same word, which an adapter learns in a few steps."""

from __future__ import annotations

from pathlib import Path

from tests.lab.tiny import save_model
from tests.tasks.user_files import write

WORD = "x"
STUDY = """name = "answered"
model = "model"
tasks = ["mine"]
budget = 3000
full_ft = false
full_ft_reason = "seconds count in a test"
reference = "lora"

[training]
steps = {steps}
batch = 4
length = 32

[tuning]
regret_sample = 0
start = 0.03

[report]
seeds = [1, 2]
windows = 8
metric_rows = 6
curve_every = 100

[[data]]
name = "mine"
train = "rows.jsonl"
ood = "ood.jsonl"
metric = "{metric}"
max_new_tokens = 8

[[contestants]]
adapter = "lora"

[[contestants]]
adapter = "ia3"
"""


def rows(count: int, words: str = "is it so") -> list[dict[str, str]]:
    """Prompts with the same answer; a column beside them is for scorers."""
    return [{"prompt": f"{words} {i}? ", "completion": WORD, "number": str(i)} for i in range(count)]


def save_answered(folder: Path, metric: str = "exact_match", steps: int = 40) -> Path:
    """The model, the data and a study of them."""
    save_model(folder / "model")
    write(folder / "rows.jsonl", rows(40))
    write(folder / "ood.jsonl", rows(10, "can it be so"))
    path = folder / "answered.toml"
    path.write_text(STUDY.format(metric=metric, steps=steps).replace('"model"', f'"{folder / "model"}"'))
    return path
