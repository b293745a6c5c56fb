r"""Quantitative Argdown maps: read, check, score, question, rewrite and draw. Needs no torch.

>>> from adapterlab import argmap
>>> read = argmap.parse("[Rain]: It rains. {credence: 0.8}\n  +> [Wet]: The street is wet.")
>>> round(argmap.score(read).claims["Wet"].credence, 2)
0.7
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapterlab.argmap.diagnostics import Diagnostic
    from adapterlab.argmap.draw import to_svg
    from adapterlab.argmap.edit import with_credences
    from adapterlab.argmap.files import load
    from adapterlab.argmap.model import Argument, Claim, Map, Relation, Section
    from adapterlab.argmap.reader import parse
    from adapterlab.argmap.scores import ArgumentScore, ClaimScore, Scores, score, sensitivities

_HOMES = {
    "Diagnostic": "diagnostics",
    "to_svg": "draw",
    "with_credences": "edit",
    "load": "files",
    "Argument": "model",
    "Claim": "model",
    "Map": "model",
    "Relation": "model",
    "Section": "model",
    "parse": "reader",
    "ArgumentScore": "scores",
    "ClaimScore": "scores",
    "Scores": "scores",
    "score": "scores",
    "sensitivities": "scores",
}

__all__ = [
    "Argument",
    "ArgumentScore",
    "Claim",
    "ClaimScore",
    "Diagnostic",
    "Map",
    "Relation",
    "Scores",
    "Section",
    "load",
    "parse",
    "score",
    "sensitivities",
    "to_svg",
    "with_credences",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
