"""Code that only some trials run, imported when one of them needs it.

The name of the module is computed, so it is not counted for every trial (`import_closure`): `code_version` counts it for the
trials that run it.

>>> measuring().__name__ == GEOMETRY
True
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

GEOMETRY = "adapterlab.lab.trial.geometry"
"""The module that measures the change of weights of a trial."""


def measuring() -> ModuleType:
    """Return the module that measures the change of weights of a trial."""
    return import_module(GEOMETRY)
