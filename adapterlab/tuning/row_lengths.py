r"""Lengths of the rows of a user's data, from which the time that other rows take is extrapolated.

>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> from adapterlab.models.loading import load_causal
>>> with TemporaryDirectory() as folder:
...     file = Path(folder) / "rows.jsonl"
...     _ = file.write_text("".join(f'{{"prompt": "{i} + 1 =", "completion": " {i + 1}"}}\n' for i in range(60)))
...     lengths = RowLengths.of(FileData("sums", str(file)), load_causal().tokenizer, length=64)
>>> lengths.scored(rows=2) < lengths.scored(rows=4)
True
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from adapterlab.lab.trial.train import batches
from adapterlab.tasks.base import Examples, Part
from adapterlab.tasks.files import FileData, parts_of, task_of

MOST_ROWS = 1024
"""Rows of a part whose lengths are looked at, at most."""
SAMPLE = 200
"""Batches over which the mean size of a batch is taken."""


@dataclass(frozen=True)
class RowLengths:
    """Lengths of the rows of each part, in the order in which they are used."""

    parts: Mapping[Part, Int[Tensor, " rows"]]
    """By part, the tokens of each row; 1 for a row without tokens, such as an image."""

    @classmethod
    def of(cls, data: FileData, processor: Any, length: int) -> RowLengths:
        """Return the lengths of the first rows of each part.

        Args:
            data: The user's data files.
            processor: The model's tokenizer or image processor.
            length: Tokens in an example, at most.
        """
        task = task_of(data)
        wanted = (Part.TRAIN, *task.parts)
        if task.head.kind == "image":
            counts = {part: len(parts_of(data).rows[part]) for part in wanted}
            return cls({part: torch.ones(min(n, MOST_ROWS), dtype=torch.long) for part, n in counts.items()})
        return cls({part: lengths_of(task.examples(part, processor, length, MOST_ROWS)) for part in wanted})

    def scored(self, rows: int) -> float:
        """Return the tokens that scoring one part takes, averaged over the parts that are scored.

        Args:
            rows: Rows scored of each part, at most.
        """
        scored = [float(lengths[:rows].sum()) for part, lengths in self.parts.items() if part is not Part.TRAIN]
        return sum(scored) / len(scored)

    @property
    def most(self) -> int:
        """Rows of the largest part that is scored, at most `MOST_ROWS`."""
        return max(len(lengths) for part, lengths in self.parts.items() if part is not Part.TRAIN)

    def trained(self, batch: int, steps: int = SAMPLE, seed: int = 0) -> float:
        """Return the tokens of a training batch with its padding, on average over some steps.

        Args:
            batch: Examples in a batch.
            steps: Number of steps.
            seed: Seed of the order of the batches.
        """
        rows = Examples({"length": self.parts[Part.TRAIN]}, 1)
        sizes = [int(chosen["length"].max()) * batch for chosen in batches(rows, batch, steps, seed)]
        return sum(sizes) / len(sizes)


def lengths_of(examples: Examples) -> Int[Tensor, " rows"]:
    """Return the number of tokens of each row that the model computes; 1 for rows without tokens.

    Args:
        examples: Examples of a task. Of a language model's, columns behind the last scored token are not computed.
    """
    scored = [mask for name, mask in examples.inputs.items() if name.endswith("scored")]
    masks = scored or [mask for name, mask in examples.inputs.items() if name == "attention_mask"]
    if not masks:
        return torch.ones(len(examples), dtype=torch.long)
    ends = [(mask.long() * torch.arange(1, mask.shape[1] + 1)).amax(1) for mask in masks]
    return torch.stack(ends).amax(0)
