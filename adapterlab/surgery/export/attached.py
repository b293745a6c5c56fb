"""The part of an attached adapter that is written to files: an interface, since `Handle` itself calls these functions.

>>> from torch import nn
>>> from adapterlab import adapter, attach
>>> isinstance(attach(nn.Sequential(nn.Linear(4, 4)), adapter("lora", rank=2)), Attached)
True
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import nn

from adapterlab.adapters.base import Adapter
from adapterlab.surgery.sites.base import Site


@runtime_checkable
class Attached(Protocol):
    """An attached adapter, such as a `Handle`."""

    @property
    def model(self) -> nn.Module:
        """The model."""
        ...

    @property
    def adapter(self) -> Adapter:
        """The method and its hyperparameters."""
        ...

    @property
    def sites(self) -> Mapping[str, Site]:
        """Sites by the path of the layer or parameter that each adapts."""
        ...

    @property
    def trained_too(self) -> Mapping[str, nn.Parameter]:
        """Parameters by path of the modules that are trained beside the adapter."""
        ...

    @property
    def new_heads(self) -> Mapping[str, nn.Parameter]:
        """Parameters by path that the model's checkpoint did not have."""
        ...
