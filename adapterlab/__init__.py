"""Parameter-efficient adapters as hypotheses about a transformer, contests between them, and what follows.

handle = adapterlab.attach(model, adapterlab.adapter("lora", rank=8))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapterlab.adapters import adapter, all_adapters
    from adapterlab.surgery import Handle, attach, load, parameter_count, sized

_HOMES = {
    "adapter": "adapterlab.adapters",
    "all_adapters": "adapterlab.adapters",
    "Handle": "adapterlab.surgery",
    "attach": "adapterlab.surgery",
    "load": "adapterlab.surgery",
    "parameter_count": "adapterlab.surgery",
    "sized": "adapterlab.surgery",
}
__all__ = ["Handle", "adapter", "all_adapters", "attach", "load", "parameter_count", "sized"]


def __getattr__(name: str) -> Any:
    # torch loads when something is first used, so that `import adapterlab` is fast.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'adapterlab' has no attribute {name!r}")
