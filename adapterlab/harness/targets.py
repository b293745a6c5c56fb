"""Models to evaluate, found by the folder that a user names.

>>> find_target("embedded").name
'embedded'
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.locate import LEDGER, STUDY, open_study
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.progress import replay
from adapterlab.surgery.adapter_files import CARD
from adapterlab.tuning.winner import ADAPTERS, WINNER, keep_winner

CONTESTANTS = "contestants"
"""Folder in a folder of results with the contestants that were trained again to be evaluated."""
RESULT = "lm-eval.json"
"""File that the harness's results are written to."""


@dataclass(frozen=True)
class Target:
    """A model to evaluate: a base model, with an adapter or without."""

    model: str
    """Base model: `embedded`, a folder or a hub id."""
    adapter: Path | None = None
    """Folder of the adapter, in this package's format or PEFT's; None for the base model alone."""

    @property
    def name(self) -> str:
        """Name in the results."""
        return self.model if self.adapter is None else f"{self.model} with {self.adapter}"


def find_target(folder: str, model: str | None = None, contestant: str | None = None) -> Target:
    """Return the model that a folder names.

    Args:
        folder: A folder of results with a winner, a saved adapter (of this package or of PEFT), a model's folder, a hub id,
            or `embedded`.
        model: Base model of a saved adapter; that of the study for the adapters of its folder.
        contestant: Contestant of a folder of results, which is trained again with its first reported seed and kept; the
            saved winner if None.

    Raises:
        AdapterlabError: If the folder has no such adapter, or its base model is not known.
    """
    place = Path(folder)
    if (place / LEDGER).is_file():
        return _of_results(place, model, contestant)
    if contestant is not None:
        raise AdapterlabError(f"{folder} is not a folder of results, so it has no contestant {contestant}")
    if (place / WINNER).is_dir() or place.name == WINNER:
        place = place if place.name == WINNER else place / WINNER
        return _saved(place, model or _base_of(place.parent), folder)
    if (place / CARD).is_file() or (place / "adapter_config.json").is_file():
        base = model or _base_of(place.parent.parent)
        if base is None:
            raise AdapterlabError(f"{folder} is an adapter, which needs its base model: give --model")
        return Target(base, place)
    if place.is_dir() and not (place / "config.json").is_file():
        raise AdapterlabError(
            f"{folder} holds neither results, nor an adapter, nor a model: give a folder of results of tune or run, a "
            "saved adapter, or a model"
        )
    return Target(folder)


def default_out(folder: str) -> Path | None:
    """Return the file that the results are written to if none is given; None for a model.

    A file in a model's folder would make it another model to the lab, whose trials are named by what the folder holds.

    Args:
        folder: As for `find_target`.
    """
    place = Path(folder)
    own = (LEDGER, WINNER, CARD, "adapter_config.json", "adapterlab")
    return place / RESULT if any((place / name).exists() for name in own) else None


def _of_results(place: Path, model: str | None, contestant: str | None) -> Target:
    base = model or _base_of(place)
    if contestant is None:
        if not (place / WINNER).is_dir():
            raise AdapterlabError(f"{place} has no saved winner: name a contestant with --contestant")
        return _saved(place / WINNER, base, str(place))
    study, _ = open_study(str(place))
    prepared = prepare(study, place)
    states = replay(prepared.contests(), Ledger(place / LEDGER))
    found = [state.contest for state in states if state.contest.contestant == contestant and state.contest.reported]
    if not found or found[-1].adapter is None:
        names = ", ".join(entry.name for entry in study.entrants)
        raise AdapterlabError(f"{place} has no reported run of {contestant}: its contestants are {names}")
    keep_winner(found[-1], place / CONTESTANTS / contestant, place / ADAPTERS)
    return _saved(place / CONTESTANTS / contestant, base, str(place))


def _saved(winner: Path, base: str | None, folder: str) -> Target:
    """Return the target of a winner's folder."""
    if not (winner / "adapterlab" / CARD).is_file():
        raise AdapterlabError(f"{folder} has no saved adapter in {winner}: run the same tune command again")
    if base is None:
        raise AdapterlabError(f"{folder} does not record its base model: give --model")
    return Target(base, winner / "adapterlab")


def _base_of(results: Path) -> str | None:
    """Return the base model of a study's results, or None if the folder is not one."""
    try:
        found = json.loads((results / STUDY).read_text("utf-8"))["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, str) else None
