"""Classification of a user's files: texts with labels for a sequence classifier, images with labels for a vision model.

Example:
    >>> task = UserLabels(FileData("mine", train="train.jsonl"), Form.LABEL)
    >>> ", ".join(task.parts), task.unit
    ('validation, test', 'nats per example')
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.models.loading import Head, padding
from adapterlab.tasks.base import Control, Examples, Part, Scores, Task
from adapterlab.tasks.halving import halving
from adapterlab.tasks.parts import FileData, parts_of
from adapterlab.tasks.rows import Form, Row
from adapterlab.tasks.scoring import mean_of_rows
from adapterlab.tasks.text import Tokenizer
from adapterlab.tasks.user_text import choose

MOST_PIXELS = 100_000_000
"""Most pixels of an image: a file of a few kilobytes can hold more than fit in memory."""
EXAMPLES_AT_ONCE = 64
"""Examples per forward pass when scoring."""


class ImageProcessor(Protocol):
    """The part of a transformers image processor that tasks use."""

    def __call__(self, images: object, *, return_tensors: str) -> Mapping[str, Tensor]:
        """Return `pixel_values (1, channels, height, width)`.

        Args:
            images: One image: a Pillow image, or an array of pixels.
            return_tensors: Here always `"pt"`, for torch.
        """
        ...


class UserLabels(Task):
    """Prediction of a label from a text or an image, without a base domain to measure forgetting on.

    Args:
        data: The name of the task and the paths of its files.
        form: `Form.LABEL` for texts or `Form.IMAGE` for images.
    """

    explanation = "Your own data."
    unit = "nats per example"
    prompted = True

    def __init__(self, data: FileData, form: Form) -> None:
        self.data, self.name, self.form = data, data.name, form
        self.title = data.name

    @property
    def parts(self) -> tuple[Part, ...]:
        return (Part.VALIDATION, Part.TEST, *((Part.OOD,) if self.data.ood else ()))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels of the training rows, sorted."""
        rows = parts_of(self.data).rows[Part.TRAIN]
        found = sorted({str(row.values["label"]) for row in rows})
        if len(found) < 2:
            raise AdapterlabError(f"{self.data.train}: every training row has the label {found[0]!r}: give two or more")
        if len(found) > 1000 or len(found) > len(rows) / 2:
            raise AdapterlabError(
                f"{self.data.train}: {len(found)} labels on {len(rows)} rows are too many for classes: give fewer labels, "
                "or leave 'label' out to train on the text itself"
            )
        return tuple(found)

    @property
    def head(self) -> Head:
        return Head("image" if self.form is Form.IMAGE else "sequence", self.labels)

    def examples(self, part: Part, processor: Any, length: int, count: int) -> Examples:
        rows = choose(parts_of(self.data).rows[part], count, f"{self.name}/{part}")
        inputs = images(rows, processor) if self.form is Form.IMAGE else texts(rows, processor, length)
        return Examples(inputs | {"labels": torch.tensor([self._index(row) for row in rows])}, len(rows))

    def terms(self, batch: Mapping[str, Tensor]) -> int:
        return len(batch["labels"])

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        return cross_entropy(_logits(model, batch), batch["labels"], reduction="sum")

    @torch.no_grad()
    def score(self, model: nn.Module, examples: Examples, control: Control) -> Scores:
        device = next(model.parameters()).device
        mask = examples.inputs.get("attention_mask")
        order = torch.arange(len(examples)) if mask is None else mask.sum(1).argsort(descending=True, stable=True)

        def run(at_once: int) -> tuple[Tensor, int]:
            nats, hits = torch.zeros(len(examples), dtype=torch.float64), 0
            for rows in order.split(at_once):
                batch = {name: t.to(device) for name, t in examples.rows(rows).items()}
                logits = _logits(model, batch)
                nats[rows] = cross_entropy(logits, batch["labels"], reduction="none").double().cpu()
                hits += int((logits.argmax(-1) == batch["labels"]).sum())
            return nats, hits

        (nats, hits), _ = halving(run, EXAMPLES_AT_ONCE)
        return mean_of_rows(nats, examples.size, hits / len(examples))

    def fingerprint(self) -> str:
        return parts_of(self.data).hash

    def _index(self, row: Row) -> int:
        label = str(row.values["label"])
        if label not in self.labels:
            raise UnknownNameError("label", label, self.labels, where=row.place)
        return self.labels.index(label)


def _logits(model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    if (mask := inputs.get("attention_mask")) is not None:
        longest = int(mask.sum(1).max())  # rows are padded on the right to the longest of their part
        inputs = {name: tensor[:, :longest] for name, tensor in inputs.items()}
    if "pixel_values" in inputs:
        inputs["pixel_values"] = inputs["pixel_values"].to(next(model.parameters()).dtype)
    logits: Tensor = model(**inputs).logits
    return logits.float()


def texts(rows: Sequence[Row], tokenizer: Tokenizer, length: int) -> dict[str, Tensor]:
    """Encode the texts of some rows, padded on the right to the longest.

    Args:
        rows: Rows with a `text`.
        tokenizer: The model's tokenizer.
        length: Largest number of tokens; the rest of a longer text is dropped.

    Returns:
        `input_ids` and `attention_mask`, both `(rows, tokens)`; the mask is 0 on the padding.
    """
    filler = padding(tokenizer)
    encoded = tokenizer([row.values["text"] for row in rows], truncation=True, max_length=length)["input_ids"]
    encoded = [ids or [filler] for ids in encoded]
    width = max(map(len, encoded))
    ids = torch.tensor([row + [filler] * (width - len(row)) for row in encoded])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in encoded])
    return {"input_ids": ids, "attention_mask": mask}


def images(rows: Sequence[Row], processor: ImageProcessor) -> dict[str, Tensor]:
    """Read the images of some rows and process them for the model.

    Args:
        rows: Rows with an `image`: a path, encoded bytes, a Pillow image, or pixels.
        processor: The model's image processor.

    Returns:
        `pixel_values (rows, channels, height, width)`.

    Raises:
        AdapterlabError: If an image cannot be read, or Pillow is not installed.
    """
    return {"pixel_values": torch.cat([_pixels(row, processor) for row in rows])}


def _pixels(row: Row, processor: ImageProcessor) -> Tensor:
    try:
        return processor(_image(row), return_tensors="pt")["pixel_values"]
    except AdapterlabError:
        raise
    except Exception as error:  # damaged images cause errors of many types
        raise AdapterlabError(
            f"{row.place}: cannot be read as an image: {error}: replace the file or take it out"
        ) from error


def _image(row: Row) -> object:
    value = row.values["image"]
    if isinstance(value, dict):  # Parquet files hold bytes and path together
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
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is the stricter one
        with Image.open(source) as image:
            if image.width * image.height > MOST_PIXELS:
                raise AdapterlabError(
                    f"{row.place}: the image has {image.width:,} x {image.height:,} pixels, more than {MOST_PIXELS:,}: "
                    "make it smaller, or take it out"
                )
            return image.convert("RGB")
