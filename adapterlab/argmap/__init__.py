r"""Quantitative argument maps in Argdown: read, check, score, compare, edit and draw. Needs no torch.

>>> from adapterlab import argmap
>>> weather = argmap.parse("[Rain]: It rains. {credence: 0.8}\n  +> [Wet]: The street is wet.")
>>> round(argmap.score(weather).claims["Wet"].credence, 2)
0.7
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapterlab.argmap.model.build import parse
    from adapterlab.argmap.model.files import load
    from adapterlab.argmap.model.map import Argument, Claim, Map, Relation, Section
    from adapterlab.argmap.scoring.belief_network import BayesFactor
    from adapterlab.argmap.scoring.scores import ArgumentScore, ClaimScore, Scores, score
    from adapterlab.argmap.scoring.sensitivity import sensitivities
    from adapterlab.argmap.syntax.diagnostics import Diagnostic
    from adapterlab.argmap.tools.draw import to_svg
    from adapterlab.argmap.tools.edit import with_credences

_HOMES = {
    "BayesFactor": "scoring.belief_network",
    "Diagnostic": "syntax.diagnostics",
    "to_svg": "tools.draw",
    "with_credences": "tools.edit",
    "load": "model.files",
    "Argument": "model.map",
    "Claim": "model.map",
    "Map": "model.map",
    "Relation": "model.map",
    "Section": "model.map",
    "parse": "model.build",
    "ArgumentScore": "scoring.scores",
    "ClaimScore": "scoring.scores",
    "Scores": "scoring.scores",
    "score": "scoring.scores",
    "sensitivities": "scoring.sensitivity",
}

__all__ = [
    "Argument",
    "ArgumentScore",
    "BayesFactor",
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


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
