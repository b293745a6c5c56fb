"""One trial: an adapter trained on a task at one learning rate with one seed, and what came of it.

A trial is named by a hash of everything that decides its outcome, so the same trial is never run twice.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters.base import Adapter
from adapterlab.tasks.base import Part

FROZEN = "frozen"
"""The contestant that is not trained."""


@dataclass(frozen=True)
class Trial:
    """Everything that decides the outcome of one training run."""

    model: str
    model_hash: str
    task: str
    data: str
    """Fingerprint of the task's data."""
    adapter: str
    """Name and settings of the adapter as JSON with sorted keys."""
    targets: str | tuple[str, ...]
    lr: float
    seed: int
    steps: int
    batch: int
    length: int
    parts: tuple[str, ...]
    """The parts scored at the end."""
    windows: int
    """Windows scored of each part."""
    curve_every: int
    """Steps between two looks at the validation loss; 0 for none."""
    code: str
    """Fingerprint of the code that runs it."""
    dtype: str = "float32"
    """Of the base model; what an adapter trains is float32."""
    path: tuple[float, ...] = ()
    """Strengths other than 1 that the trained adapter is scored at."""
    share: float = 1.0
    """Of the training data that is used."""

    @property
    def id(self) -> str:
        """The trial's name: 16 hexadecimal digits. Where the model lies does not matter, only its hash."""
        decides = {key: value for key, value in asdict(self).items() if key != "model"}
        return hashlib.blake2b(json.dumps(decides, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def method(self) -> str:
        """The adapter's name, or `FROZEN`."""
        return str(json.loads(self.adapter)["name"])

    def build(self) -> Adapter:
        """The adapter, with its schedule, if it has one, made for so many steps."""
        settings = json.loads(self.adapter)
        return make_adapter(settings.pop("name"), **settings).scheduled(self.steps)

    def to_json(self) -> dict[str, Any]:
        """Plain data, from which `from_json` makes the same trial."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Trial:
        """The trial that `to_json` gave."""
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        return cls(**plain)


@dataclass(frozen=True)
class Outcome:
    """What came of a trial."""

    status: str
    """`ok`; `diverged` if the loss left the finite numbers; `failed` if no worker survived it."""
    scores: dict[str, tuple[float, float]]
    """By part, the loss in nats per byte and the accuracy; empty unless `ok`."""
    curve: tuple[tuple[int, float], ...]
    """Steps done and the validation loss then."""
    parameters: int
    seconds: float
    """Of training alone."""
    attach_seconds: float
    note: str = ""
    path: tuple[tuple[float, dict[str, tuple[float, float]]], ...] = ()
    """Other strengths, and the scores there."""
    peak_bytes: int = 0
    """Memory that a training step held beyond the model's; 0 where it could not be told."""
    at_once: int = 0
    """Examples in one pass by the end of training; 0 where there was none."""

    @property
    def validation(self) -> float:
        """The loss that choices are made on; infinite for a trial that came to nothing."""
        return self.scores[Part.VALIDATION][0] if self.status == "ok" else math.inf

    def to_json(self) -> dict[str, Any]:
        """Plain data, from which `from_json` makes the same outcome."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Outcome:
        """The outcome that `to_json` gave."""
        return cls(
            **data
            | {
                "scores": _pairs(data["scores"]),
                "curve": tuple((step, loss) for step, loss in data["curve"]),
                "path": tuple((strength, _pairs(scores)) for strength, scores in data.get("path", ())),
            }
        )


class Finished(NamedTuple):
    """A trial and what came of it."""

    trial: Trial
    outcome: Outcome
    environment: dict[str, Any]
    """What it ran on."""
    wall_seconds: float | None = None
    """From its start to its scores; None if no worker came so far."""
    attempts: int = 1


def _pairs(scores: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    return {part: (loss, accuracy) for part, (loss, accuracy) in scores.items()}
