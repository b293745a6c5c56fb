"""What a user asks of `adapterlab tune`, checked before anything runs."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapterlab.adapters import all_adapters
from adapterlab.adapters.baseline.full_ft import FullFT
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.models.loading import fingerprint
from adapterlab.tasks import all_tasks
from adapterlab.tasks.files import FileData, parts_of

SHORTLIST = ("lora", "dora", "pissa", "hra", "miss")
"""Who competes if nobody is named: one that adds, one that also scales, one that starts in the weight's own basis, one
that rotates, one that shares. All come in any size and can be written for PEFT."""
_SECONDS = {"": 60.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9}


@dataclass(frozen=True)
class Request:
    """The options of the command."""

    model: str
    data: FileData
    contestants: tuple[str, ...]
    seconds: float
    budget: str | None
    seeds: int | None
    batch: int
    length: int | None
    chosen: bool
    """Whether the contestants were named by the user."""

    def to_json(self) -> dict[str, Any]:
        """Plain data that is the same exactly when the same is asked of the same files and weights."""
        return dataclasses.asdict(self) | {"hashes": [fingerprint(self.model), parts_of(self.data).hash]}


def make_request(
    model: str,
    train: Path,
    *,
    evaluate: Path | None,
    ood: Path | None,
    keep: Path | None,
    contestants: str | None,
    time: str,
    budget: str | None,
    seeds: int | None,
    batch: int,
    length: int | None,
) -> Request:
    """Check the options; raises `AdapterlabError` that names the option and the mend."""
    stem = re.sub(r"\W+", "-", train.resolve().stem).strip("-") or "data"
    name = f"{stem}-data" if stem in all_tasks() else stem
    paths = [str(p.resolve()) if p is not None else None for p in (evaluate, ood, keep)]
    names = tuple(dict.fromkeys(part.strip() for part in (contestants or "").split(",") if part.strip()))
    for adapter in names:
        if adapter not in all_adapters():
            raise UnknownNameError("adapter", adapter, all_adapters(), where="--contestants")
    if names and set(names) <= {FullFT.name}:
        raise AdapterlabError("--contestants: full_ft runs along anyway: name an adapter, such as lora")
    if budget is not None:
        parameters(budget, 10**9)
    return Request(
        model=str(Path(model).resolve()) if Path(model).exists() else model,
        data=FileData(name, str(train.resolve()), *paths),
        contestants=tuple(n for n in names if n != FullFT.name) or SHORTLIST,
        seconds=duration(time),
        budget=budget,
        seeds=seeds,
        batch=batch,
        length=length,
        chosen=bool(names),
    )


def duration(text: str) -> float:
    """Seconds of `90s`, `30m`, `2h` or `1d`; minutes if no unit is given."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip().lower())
    if not found or float(found[1]) <= 0:
        raise AdapterlabError(f"--time {text!r} is no length of time: give one like 90s, 30m or 2h")
    return float(found[1]) * _SECONDS[found[2]]


def parameters(text: str, of: int) -> int:
    """The number of parameters that `0.5%` of a model of `of` parameters is, or that `20000`, `20k` or `1.5M` says."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kmb%]?)", text.strip().lower().replace(",", "").replace("_", ""))
    if not found or float(found[1]) <= 0:
        raise AdapterlabError(
            f"--budget {text!r} is no size: give a share like 0.5%, or a number of parameters like 20000"
        )
    value = float(found[1])
    if found[2] == "%":
        if value > 100:
            raise AdapterlabError(f"--budget {text!r} is more than the model has: give at most 100%")
        value *= of / 100
    else:
        value *= _COUNTS[found[2]]
    if value < 1:
        raise AdapterlabError(f"--budget {text!r} of {of:,} parameters is not even one: give more")
    return int(value)
