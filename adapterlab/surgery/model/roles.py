"""Roles of the linear layers of a transformer's block, judged by their names."""

from __future__ import annotations

from adapterlab.adapters.context import Role

# Names that Hugging Face decoders and encoders give to the linear layers of a block.
_ROLES = {
    Role.QUERY: {"q_proj", "query", "q_lin", "wq", "q"},
    Role.KEY: {"k_proj", "key", "k_lin", "wk", "k"},
    Role.VALUE: {"v_proj", "value", "v_lin", "wv", "v"},
    Role.OUTPUT: {
        "o_proj",
        "out_proj",
        "out_lin",
        "wo",
        "o",
        "attn.c_proj",
        "attention.output.dense",
        "self_attn.dense",
        "attention.dense",
        "self_attention.dense",
    },
    Role.GATE: {"gate_proj", "w1"},
    Role.UP: {"up_proj", "w3", "fc1", "c_fc", "dense_h_to_4h", "intermediate.dense", "lin1", "gate_up_proj"},
    Role.DOWN: {"down_proj", "w2", "fc2", "mlp.c_proj", "dense_4h_to_h", "output.dense", "lin2"},
}


ATTENTION, MLP = "attention", "mlp"
"""Names of the two groups of linear layers in a block."""


def group_of(path: str) -> str:
    """Return the part of its block that a linear layer belongs to, judged by its path.

    Args:
        path: Dotted path of the layer.

    Returns:
        `"attention"`, `"mlp"`, or an empty string if it is neither.

    >>> group_of("model.layers.0.self_attn.qkv_proj"), group_of("h.0.mlp.c_proj"), group_of("lm_head")
    ('attention', 'mlp', '')
    """
    role = role_of(path)
    if role in (Role.GATE, Role.UP, Role.DOWN):
        return MLP
    inside = any("attn" in part or "attention" in part for part in path.lower().split("."))
    return ATTENTION if inside or role in (Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT) else ""


def role_of(path: str) -> Role:
    """Return the role of a linear layer in its block, judged by its name.

    Args:
        path: Dotted path of the layer. The longest known ending of it decides.

    Returns:
        The role; `Role.OTHER` for an unknown name.

    >>> role_of("model.layers.0.self_attn.q_proj"), role_of("h.0.attn.c_proj"), role_of("h.0.mlp.c_proj")
    (<Role.QUERY: 'query'>, <Role.OUTPUT: 'output'>, <Role.DOWN: 'down'>)
    """
    endings = [(len(name), role) for role, names in _ROLES.items() for name in names if f".{path}".endswith(f".{name}")]
    return max(endings)[1] if endings else Role.OTHER
