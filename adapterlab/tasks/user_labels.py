"""Classes of a user's own: texts with labels for a sequence classifier, images with labels for a vision transformer."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.models.loading import Head, padding
from adapterlab.tasks.base import Control, Examples, Part, Scores, Task
from adapterlab.tasks.halving import halving
from adapterlab.tasks.parts import DECISIVE, FileData, parts_of
from adapterlab.tasks.rows import Form, Row
from adapterlab.tasks.user_text import drawn

AT_ONCE = 64
"""Examples that are scored in one pass."""


class UserLabels(Task):
    """Which label an example has. The loss is in nats per example; there is no base domain to forget."""

    explanation = "Your own data."
    unit = "nats per example"

    def __init__(self, data: FileData, form: Form) -> None:
        self.data, self.name, self.form = data, data.name, form
        self.title = data.name

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Part.VALIDATION, Part.TEST, *((Part.OOD,) if self.data.ood else ()))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The labels of the training rows, in their order."""
        rows = parts_of(self.data).rows[Part.TRAIN]
        found = sorted({str(row.values["label"]) for row in rows}, key=lambda label: (len(label), label))
        if len(found) < 2:
            raise AdapterlabError(f"{self.data.train}: every training row has the label {found[0]!r}: give two or more")
        if len(found) > 1000 or len(found) > len(rows) / 2:
            raise AdapterlabError(
                f"{self.data.train}: {len(found)} labels on {len(rows)} rows are no classes: give fewer labels, or leave "
                "'label' out to learn the text itself"
            )
        return tuple(sorted(found))

    @property
    def head(self) -> Head:
        return Head("image" if self.form is Form.IMAGE else "sequence", self.labels)

    def examples(self, part: Part, processor: Any, length: int, count: int) -> Examples:
        rows = drawn(parts_of(self.data).rows[part], count, f"{self.name}/{part}")
        inputs = images(rows, processor) if self.form is Form.IMAGE else texts(rows, processor, length)
        return Examples(inputs | {"labels": torch.tensor([self._number(row) for row in rows])}, len(rows))

    def terms(self, batch: Mapping[str, Tensor]) -> int:
        return len(batch["labels"])

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        return cross_entropy(_logits(model, batch), batch["labels"], reduction="sum")

    @torch.no_grad()
    def score(self, model: nn.Module, examples: Examples, control: Control) -> Scores:
        device = next(model.parameters()).device

        def run(at_once: int) -> tuple[float, int]:
            total, hits = 0.0, 0
            for start in range(0, len(examples), at_once):
                batch = {name: t.to(device) for name, t in examples.rows(slice(start, start + at_once)).items()}
                logits = _logits(model, batch)
                total += float(cross_entropy(logits, batch["labels"], reduction="sum"))
                hits += int((logits.argmax(-1) == batch["labels"]).sum())
            return total, hits

        (total, hits), _ = halving(run, AT_ONCE)
        loss = total / examples.size
        return Scores(loss if math.isfinite(loss) else math.inf, hits / len(examples))

    @property
    def sources(self) -> tuple[str, ...]:
        return *super().sources, *DECISIVE

    def fingerprint(self) -> str:
        return parts_of(self.data).hash

    def _number(self, row: Row) -> int:
        label = str(row.values["label"])
        if label not in self.labels:
            raise UnknownNameError("label", label, self.labels, where=row.place)
        return self.labels.index(label)


def _logits(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    if "pixel_values" in inputs:
        inputs["pixel_values"] = inputs["pixel_values"].to(next(model.parameters()).dtype)
    return model(**inputs).logits.float()


def texts(rows: Sequence[Row], tokenizer: Any, length: int) -> dict[str, Tensor]:
    """Token ids of each text, of at most `length`, filled on the right, with the mask that says so."""
    found = tokenizer([row.values["text"] for row in rows], truncation=True, max_length=length)["input_ids"]
    found = [ids or [padding(tokenizer)] for ids in found]
    width = max(map(len, found))
    ids = torch.tensor([row + [padding(tokenizer)] * (width - len(row)) for row in found])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in found])
    return {"input_ids": ids, "attention_mask": mask}


def images(rows: Sequence[Row], processor: Any) -> dict[str, Tensor]:
    """Pixels as the model's image processor makes them."""
    return {"pixel_values": torch.cat([_pixels(row, processor) for row in rows])}


def _pixels(row: Row, processor: Any) -> Tensor:
    try:
        return processor(_image(row), return_tensors="pt")["pixel_values"]
    except AdapterlabError:
        raise
    except Exception as error:  # whatever a damaged image makes the library raise
        raise AdapterlabError(f"{row.place}: cannot be read as an image: {error}") from error


def _image(row: Row) -> Any:
    value = row.values["image"]
    if isinstance(value, dict):  # as Parquet holds it
        value = value.get("bytes") or value.get("path")
    if isinstance(value, list):
        return torch.tensor(value)
    if not isinstance(value, str | bytes):
        return value.convert("RGB") if hasattr(value, "convert") else value
    try:
        from PIL import Image
    except ImportError as error:
        raise AdapterlabError(
            f"{row.place}: images need Pillow, which is not installed: pip install 'adapterlab[images]'"
        ) from error
    source = io.BytesIO(value) if isinstance(value, bytes) else Path(value)
    with Image.open(source) as image:
        return image.convert("RGB")
