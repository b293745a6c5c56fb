"""Methods and contestants of a study, described for a reader of its report.

>>> method_page("ia3")["theme"]
'gain'
"""

from __future__ import annotations

import inspect
from typing import Any

from adapterlab.adapters import all_adapters
from adapterlab.adapters.peft_config import PREFIX
from adapterlab.errors import AdapterlabError
from adapterlab.lab.study.spec import Study

Json = dict[str, Any]
"""Plain data by key."""


def contestants(study: Study, palette: dict[str, str]) -> list[Json]:
    """Return every contestant of a study with its method and its settings.

    Args:
        study: The study.
        palette: By contestant, its colour.
    """
    return [
        {
            "name": entry.name,
            "method": entry.adapter,
            "settings": {key: str(value) for key, value in entry.settings.items()},
            "theme": method_page(entry.adapter)["theme"],
            "ranked": study.competes(entry.name),
            "colour": palette[entry.name],
        }
        for entry in study.entrants
    ]


def methods(study: Study) -> dict[str, Json]:
    """Return the description of every method of a study, by name.

    Args:
        study: The study.
    """
    return {name: method_page(name) for name in dict.fromkeys(entry.adapter for entry in study.entrants)}


def method_page(name: str) -> Json:
    """Return what a method bets on, how it is computed, and how to use it.

    Args:
        name: Name of the method; one of PEFT's begins with `peft:`.
    """
    method = all_adapters().get(name)
    if method is None:
        words = (
            "A method of the PEFT library, trained through it."
            if name.startswith(PREFIX)
            else "An adapter of the study's own code."
        )
        return {"title": name, "theme": "PEFT" if name.startswith(PREFIX) else "own code", "claim": words}
    paragraphs = inspect.cleandoc(method.__doc__ or "").split("\n\n")
    return {
        "title": method.title,
        "theme": method.theme.value,
        "claim": method.claim,
        "paper": method.paper,
        "site": method.site,
        "mergeable": method.mergeable,
        "invariants": _invariants(method),
        "description": [" ".join(p.split()) for p in paragraphs if not p.lstrip().startswith(">>>")],
    }


def _invariants(method: Any) -> list[str]:
    try:
        return [str(invariant) for invariant in method().invariants]
    except (AdapterlabError, TypeError):  # needs settings
        return []
