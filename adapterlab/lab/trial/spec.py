"""A trial and its outcome: one adapter trained on one task at one learning rate with one seed.

A trial is named by a hash of everything that decides its outcome, so the same trial is never run twice.

>>> from dataclasses import replace
>>> trial = Trial("embedded", "1f", "prose", "2a", '{"name": "lora", "rank": 8}', "all-linear", lr=1e-3, seed=1, steps=40,
...               batch=4, length=128, parts=("test",), windows=8, curve_every=0, code="3c")
>>> trial.id == replace(trial, model="a copy in another folder").id, trial.id == replace(trial, seed=2).id
(True, False)
>>> trial.method
'lora'
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from adapterlab.adapters import adapter as make_adapter
from adapterlab.adapters.base import Adapter
from adapterlab.tasks.base import Part

FROZEN = "frozen"
"""Name of the contestant that is not trained."""
FROZEN_STRENGTH, FULL_STRENGTH = 0.0, 1.0
"""Strengths of the frozen model and of the adapter as trained."""
PathScores = tuple[tuple[float, dict[str, tuple[float, float]]], ...]
"""Strengths of the adapter, each with its scores by part."""
AlongScores = tuple[tuple[int, dict[str, tuple[float, float]]], ...]
"""Numbers of steps, each with the scores by part after them."""
ROW_DIGITS = 7
"""Significant digits of a row's loss in a ledger: as exact as float32."""


@dataclass(frozen=True)
class Trial:
    """Everything that decides the outcome of one training run."""

    model: str
    """Name of the model: `embedded`, a folder or a hub id. Not part of the trial's id; `model_hash` is."""
    model_hash: str
    """Hash of the model's weights, configuration and tokenizer."""
    task: str
    data: str
    """Fingerprint of the task's data."""
    adapter: str
    """Name and settings of the adapter as JSON with sorted keys."""
    targets: str | tuple[str, ...]
    """Modules that the adapter is attached to, as `attach` takes them."""
    lr: float
    """Peak learning rate."""
    seed: int
    """Seed of the adapter's initialization, of the order of the batches and of dropout."""
    steps: int
    """Optimizer steps."""
    batch: int
    """Examples in a step."""
    length: int
    """Tokens in an example, at most."""
    parts: tuple[str, ...]
    """Parts of the task scored after training."""
    windows: int
    """Examples scored of each part, at most."""
    curve_every: int
    """Steps between two measurements of the validation loss; 0 for none."""
    code: str
    """Fingerprint of the code that decides the outcome."""
    precision: str = "float32"
    """`float32`, or `bf16` for a base in bfloat16 and autocast (`lab.trial.precision`). It is `auto` in trials of a study
    whose precision is not decided, which can be simulated and not run."""
    path: tuple[float, ...] = ()
    """Strengths other than 1 at which the trained adapter is scored."""
    share: float = 1.0
    """Share of the training data used."""
    path_windows: int = 0
    """Examples scored of each part along the path, at most: the first ones of the part; 0 for `windows`."""
    rows: bool = False
    """True to record the loss of every scored row, as reported trials do."""
    metric: str = ""
    """Metric of the answers that the model generates after training; empty to generate none."""
    scorer: str = ""
    """Hash of the code of the user's scorer; empty for a metric that comes with the package."""
    max_new_tokens: int = 0
    """Tokens of a generated answer, at most."""
    metric_rows: int = 0
    """Answers generated for each part, at most."""
    geometry: str = ""
    """Measurement of the trained change of weights, as JSON with sorted keys; empty to measure nothing."""

    @property
    def id(self) -> str:
        """Name of the trial: 16 hexadecimal digits of a hash over all fields but `model`.

        Without a metric, the fields about it are left out, as they were before there were metrics; so is `geometry` in a
        trial that measures none.
        """
        left_out = {"model", *(() if self.metric else ("metric", "scorer", "max_new_tokens", "metric_rows"))}
        left_out |= set() if self.geometry else {"geometry"}
        decides = {key: value for key, value in asdict(self).items() if key not in left_out}
        return hashlib.blake2b(json.dumps(decides, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def method(self) -> str:
        """Name of the adapter, or `FROZEN`."""
        return str(json.loads(self.adapter)["name"])

    def build(self) -> Adapter:
        """Return the adapter, with its schedule (if the method has one) set to the trial's number of steps.

        Raises:
            AdapterlabError: If no method of that name is known, or a setting does not exist.
        """
        settings = json.loads(self.adapter)
        return make_adapter(settings.pop("name"), **settings).scheduled(self.steps)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, from which `from_json` makes an equal trial."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trial:
        """Return the trial that `to_json` was called on.

        Args:
            data: The fields by name; lists stand for tuples.
        """
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in data.items()}
        return cls(**plain)


@dataclass(frozen=True)
class Outcome:
    """Result of a trial: its status, scores, curve over training and cost."""

    status: str
    """`ok`; `diverged` if a loss was not finite; `failed` if memory was short or every attempt lost its worker."""
    scores: dict[str, tuple[float, float]]
    """By part, the loss (nats per byte on text) and the accuracy; empty unless `ok`."""
    curve: tuple[tuple[int, float], ...]
    """Validation losses during training, each with the steps done."""
    parameters: int
    """Number of trained parameters."""
    seconds: float
    """Training time without scoring."""
    attach_seconds: float
    """Time to attach the adapter."""
    note: str = ""
    """Remark for the reader, such as why it diverged; empty if there is none."""
    path: PathScores = ()
    """Scores at other strengths than 1. If they are of fewer examples than `scores`, those of full strength on the same
    examples are among them; the outcome of the frozen model then has those of strength 0."""
    peak_bytes: int = 0
    """Memory that a training step took beyond the model's own; 0 if it could not be measured."""
    along: AlongScores = ()
    """Scores during training, each with the steps done, of every part but validation on the examples of the strength path.
    Only of trials with a strength path."""
    at_once: int = 0
    """Examples in one forward pass at the end of training; 0 if not recorded."""
    scoring_seconds: float = 0.0
    """Time to score, during training and after it; 0 if not recorded."""
    rows: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """By part, the loss of each row at full strength, rounded to `ROW_DIGITS` digits; their plain mean is the part's loss.
    Only of trials with `Trial.rows`, and without the parts of a task that gives no rows."""
    answers: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """By part, the metric of each generated answer at full strength, rounded to `ROW_DIGITS` digits; higher is better. Only
    of trials with `Trial.metric`."""
    generating_seconds: float = 0.0
    """Time to generate answers, which is not part of `scoring_seconds`."""
    geometry: dict[str, float] = field(default_factory=dict)
    """Measures of the trained change of weights by name (`lab.trial.geometry`). Only of trials with `Trial.geometry`."""
    geometry_seconds: float = 0.0
    """Time to measure them, with the scores of projected models; no part of it is in `scoring_seconds`."""

    @property
    def validation(self) -> float:
        """Validation loss, on which choices are made; infinite unless the status is `ok`."""
        return self.scores[Part.VALIDATION][0] if self.status == "ok" else math.inf

    def to_json(self) -> dict[str, Any]:
        """Return plain data, from which `from_json` makes an equal outcome."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """Return the outcome that `to_json` was called on.

        Args:
            data: The fields by name; lists stand for tuples. `path`, `along`, `rows` and `answers` may be missing in
                old ledgers.
        """
        return cls(
            **{
                **data,
                "scores": _pairs(data["scores"]),
                "curve": tuple((step, loss) for step, loss in data["curve"]),
                "path": tuple((strength, _pairs(scores)) for strength, scores in data.get("path", ())),
                "along": tuple((step, _pairs(scores)) for step, scores in data.get("along", ())),
                "rows": {part: tuple(losses) for part, losses in data.get("rows", {}).items()},
                "answers": {part: tuple(values) for part, values in data.get("answers", {}).items()},
            }
        )


class Finished(NamedTuple):
    """A finished trial, as a worker reports it and the ledger records it."""

    trial: Trial
    outcome: Outcome
    environment: Mapping[str, str]
    """Versions and hardware that it ran on."""
    wall_seconds: float | None = None
    """Time from its start to its scores; None if no worker finished it."""
    attempts: int = 1
    """Number of attempts, counting those that lost their worker."""


def _pairs(scores: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    return {part: (loss, accuracy) for part, (loss, accuracy) in scores.items()}
