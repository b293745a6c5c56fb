"""Parameters that several sites share, held by one module of the model.

Each block of a model divided by `fully_shard` gathers its own parameters while it runs, and FSDP2 refuses a parameter of two
blocks. Those of the model itself are gathered in all blocks.

>>> from adapterlab.adapters import adapter
>>> from adapterlab.surgery import attach
>>> class Model(nn.Module):
...     def __init__(self):
...         super().__init__()
...         self.up, self.down = nn.Linear(8, 8), nn.Linear(8, 8)
>>> handle = attach(Model(), adapter("vblora", vectors=12, length=4))
>>> [name for name, _ in handle.model.adapterlab_shared.named_parameters()]
['default.bank']
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from adapterlab.surgery.model.submodules import SHARED_PARAMETERS
from adapterlab.surgery.sites.base import Site, add_site, remove_site


def hold_shared(model: nn.Module, sites: Mapping[str, Site], name: str) -> None:
    """Move the parameters that several sites share to a module of the model.

    Args:
        model: The model; one that is a container, whose children another module calls, is left as it is.
        sites: The attached sites.
        name: Name of the adapter.
    """
    if isinstance(model, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return
    uses: dict[nn.Parameter, list[tuple[Site, str]]] = {}
    for site in sites.values():
        for key, parameter in site.trained.items():
            uses.setdefault(parameter, []).append((site, key))
    holder = nn.Module()
    for parameter, places in uses.items():
        if len(places) == 1:
            continue
        key = places[0][1]
        key = key if key not in holder._parameters else f"{key}_{len(holder._parameters)}"
        holder.register_parameter(key, parameter)
        for site, own in places:
            site.share(own, holder, key)
    if holder._parameters:
        add_site(model, SHARED_PARAMETERS, name, holder)


def release_shared(model: nn.Module, name: str) -> None:
    """Undo `hold_shared` on the model; the sites must be removed too.

    Args:
        model: The model.
        name: Name of the adapter.
    """
    holders = model._modules.get(SHARED_PARAMETERS)
    if isinstance(holders, nn.ModuleDict) and name in holders:
        remove_site(model, SHARED_PARAMETERS, holders[name])
