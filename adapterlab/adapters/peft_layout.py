"""Description of a trained adapter in the names and shapes of the library PEFT.

A method that PEFT has too overrides `Adapter.peft_layout`, which returns a `PeftLayout`;
`adapterlab.surgery.export.peft_export` writes it to disk. Nothing here imports PEFT.

>>> import torch
>>> from adapterlab.adapters import State, adapter
>>> state = State({"a": torch.ones(2, 4), "b": torch.zeros(3, 2)})
>>> layout = adapter("lora", rank=2).peft_layout([PeftSite("mlp.up", state, torch.zeros(3, 4))])
>>> layout.config["peft_type"], sorted(layout.tensors)
('LORA', ['mlp.up.lora_A.weight', 'mlp.up.lora_B.weight'])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError


class CannotExportError(AdapterlabError):
    """The adapter has no equivalent in PEFT."""


@dataclass(frozen=True)
class PeftSite:
    """One site of an attached adapter."""

    path: str
    """Dotted path of the adapted layer or parameter in the model."""
    state: State
    base: Tensor
    """Base weight, `(out, in)`, or base parameter; empty at a site that adapts neither."""


@dataclass(frozen=True)
class PeftLayout:
    """Contents of PEFT's two files, without what depends only on the model."""

    config: Mapping[str, object]
    """Settings in `adapter_config.json`, by PEFT's names."""
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors of single layers, by the path of the layer and PEFT's name for the tensor."""
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors that belong to no layer, by their full name in the file."""
    prompt_heads: Literal["query", "key-value"] | None = None
    """Attention heads that a row of `prompt_embeddings` is divided among; None for a method that is not a prompt."""


def per_site(
    config: Mapping[str, object],
    sites: Sequence[PeftSite],
    tensors: Mapping[str, str] | Callable[[PeftSite], Mapping[str, Tensor]],
    *,
    shared: Mapping[str, Tensor] | None = None,
) -> PeftLayout:
    """Return the layout of a method with the same tensors at every site.

    Args:
        config: Settings by PEFT's names.
        sites: Sites of the adapter.
        tensors: The state's name of each tensor by PEFT's name; or a function that returns the tensors of one site by
            PEFT's names.
        shared: Tensors that belong to no layer, by their full name.
    """
    named: dict[str, Tensor] = {}
    for site in sites:
        found = tensors(site) if callable(tensors) else {name: site.state[own] for name, own in tensors.items()}
        named |= {f"{site.path}.{name}": tensor for name, tensor in found.items()}
    return PeftLayout(config, named, shared or {})
