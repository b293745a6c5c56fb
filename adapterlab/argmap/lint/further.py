"""Checks of a map that belong to other packages, such as those of the tests that its claims state.

>>> all(callable(check) for check in CHECKS)
True
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from adapterlab.argmap.model.map import Map
from adapterlab.argmap.syntax.diagnostics import Diagnostic

Check = Callable[[Map], Iterable[Diagnostic]]
CHECKS: list[Check] = []
"""The checks, in the order in which they were added."""
