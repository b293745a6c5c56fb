"""Names of the submodules that adapters add to a model.

Each kind of site is registered in an `nn.ModuleDict` of its own name on the module that it is attached to, so the
model's own modules keep their names and classes.
"""

from __future__ import annotations

LINEAR_SITES = "adapterlab"
"""Name on a linear layer of the stack of sites attached to it."""
PARAMETER_SITES = "adapterlab_parameters"
"""Name on a module of the sites that replace its parameters while it runs."""
RESIDUAL_SITES = "adapterlab_edits"
"""Name on a block of the sites that edit its output."""
PREFIX_SITES = "adapterlab_prefixes"
"""Name on an attention of the sites that add keys and values to it."""
PROMPT_SITES = "adapterlab_prompts"
"""Name on a backbone of the sites that add vectors before the embeddings."""
ROUTER_SITES = "adapterlab_routers"
"""Name on a backbone of the routers of mixtures."""

SHARED_PARAMETERS = "adapterlab_shared"
"""Name on a model of the parameters that several sites of an adapter share."""


def in_adapter(path: str) -> bool:
    """Return True if the module or parameter at `path` was added by an adapter.

    Args:
        path: Dotted path in the model, as in `named_modules` or `state_dict`.

    >>> in_adapter("model.layers.0.mlp.up_proj.adapterlab.default.a"), in_adapter("model.layers.0.mlp.up_proj.weight")
    (True, False)
    """
    return f".{LINEAR_SITES}" in f".{path}"
