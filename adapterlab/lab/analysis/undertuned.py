"""Methods for which a random search over their settings found much better ones than their defaults.

>>> undertuned("frozen")
''
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any


def undertuned(method: str) -> str:
    """Return a remark on a method whose defaults may be far from its best settings, or an empty string.

    Args:
        method: Name of the method.
    """
    found = _flags().get(method)
    if not isinstance(found, dict):
        return ""
    return (
        f"possibly undertuned: in a random search over its settings the best gained {found['best']:.3f} nats per byte, "
        f"the defaults {found['gain']:.3f} ({found['settings']})"
    )


def searched_methods() -> Sequence[str]:
    """Return the names of the methods whose settings have been searched."""
    return tuple(_flags()["searched"])


@cache
def _flags() -> Mapping[str, Any]:
    return tomllib.loads(files("adapterlab.lab.analysis").joinpath("undertuned.toml").read_text("utf-8"))
