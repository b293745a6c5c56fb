"""The structure of a decoder-only transformer: backbone, blocks and attentions.

No model is known by name. The blocks are the longest list of modules that each hold projections to keys and values, and
the projections are recognized by the names that they have in all families (`role_of`).

>>> from transformers import LlamaConfig, LlamaForCausalLM
>>> shape = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
>>> decoder = Decoder(LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=4, num_key_value_heads=2)))
>>> [block.path for block in decoder.blocks]
['model.layers.0', 'model.layers.1']
>>> attention = decoder.attentions[0]
>>> attention.query.path, attention.heads, attention.kv_heads, attention.head_dim
('model.layers.0.self_attn.q_proj', 4, 2, 2)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from adapterlab.adapters.context import Role
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.attention import BlockAttention, Projection
from adapterlab.surgery.model.linear_layers import LinearLayer, linears, token_embedding
from adapterlab.surgery.model.roles import role_of
from adapterlab.surgery.model.submodules import in_adapter
from adapterlab.surgery.model.weights import shape_of

# One layer for queries, keys and values: all queries, then all keys, then all values; or, as in Megatron, for each
# key-value head its queries, its key and its value.
_FUSED = {"c_attn", "qkv_proj", "Wqkv", "query_key_value"}
_BY_HEAD = {"query_key_value"}


@dataclass(frozen=True, eq=False)
class Block:
    """One block of a decoder."""

    path: str
    """Path of the block in the model."""
    module: nn.Module
    """The block."""
    layer: int
    """Index of the block, from 0."""


class Decoder:
    """The structure of a decoder-only model.

    Each property raises `AdapterlabError` if the model has no such part.

    Args:
        model: A decoder of transformers, with or without a head.

    Raises:
        AdapterlabError: The model has an encoder and a decoder.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.config: object = getattr(model, "config", None)
        if getattr(self.config, "is_encoder_decoder", False):
            raise self._unsupported("it has an encoder and a decoder; only decoders are supported")

    @classmethod
    def with_backbone(cls, model: nn.Module) -> Decoder:
        """Return the structure of a model whose tokens enter through a table of embeddings.

        Args:
            model: A decoder of transformers, with or without a head.

        Raises:
            AdapterlabError: The model has no such table, or no blocks.
        """
        decoder = cls(model)
        _ = decoder.backbone
        return decoder

    @cached_property
    def backbone(self) -> nn.Module:
        """The module that maps token ids to the last hidden state: the innermost with both embedding and blocks."""
        path = self.blocks[0].path.rpartition(".")[0]
        while path:
            path = path.rpartition(".")[0]
            module = self.model.get_submodule(path)
            if any(part is self.embedding for part in module.modules()):
                return module
        return self.model

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding."""
        found = token_embedding(self.model)
        if not isinstance(found, nn.Embedding):
            raise self._unsupported("it has no table of token embeddings (get_input_embeddings)")
        return found

    @cached_property
    def blocks(self) -> Sequence[Block]:
        """The blocks in order."""
        keyed = [path for path in linears(self.model) if role_of(path) is Role.KEY or path.rpartition(".")[2] in _FUSED]
        lists = []
        for path, module in self.model.named_modules():
            if isinstance(module, nn.ModuleList) and not in_adapter(path) and len(module):
                prefixes = [f"{path}.{i}." for i in range(len(module))]
                if all(any(key.startswith(prefix) for key in keyed) for prefix in prefixes):
                    lists.append((path, module))
        if not lists:
            raise self._unsupported("no list of blocks that each hold an attention with known projections")
        path, blocks = max(lists, key=lambda found: len(found[1]))
        return [Block(f"{path}.{i}", block, i) for i, block in enumerate(blocks)]

    @cached_property
    def width(self) -> int:
        """Width of the residual stream."""
        width = getattr(self.config, "hidden_size", None)
        return self.embedding.embedding_dim if width is None else int(width)

    @cached_property
    def attentions(self) -> Sequence[BlockAttention]:
        """The self-attention of each block."""
        return [self._attention(block) for block in self.blocks]

    @cached_property
    def mixes_linearly(self) -> bool:
        """True if attention scores are plain products of queries and keys: no rotary embedding, no norm on either."""
        rotary = any(name.rpartition(".")[2].endswith("inv_freq") for name, _ in self.model.named_buffers())
        rotary = rotary or hasattr(self.config, "rotary_dim")
        normed = any("norm" in name.lower() for a in self.attentions for name, _ in a.module.named_children())
        return not rotary and not normed

    def _attention(self, block: Block) -> BlockAttention:
        layers = {
            path: layer
            for path, layer in linears(self.model).items()
            if path.startswith(f"{block.path}.") and "cross" not in path.removeprefix(block.path)
        }
        by_role: dict[Role, Projection] = {}
        for path, layer in layers.items():
            by_role.setdefault(role_of(path), Projection(path, layer))
        fused = next((path for path in layers if path.rpartition(".")[2] in _FUSED), None)
        anchor = fused or (by_role[Role.KEY].path if Role.KEY in by_role else None)
        if anchor is None or Role.OUTPUT not in by_role:
            raise self._unsupported(f"{block.path} has no projections to keys and to the output that are known")
        path = anchor.rpartition(".")[0]
        module = self.model.get_submodule(path)
        head_dim = self._head_dim(module)
        if fused is not None:
            by_role |= self._split(fused, layers[fused], by_role[Role.OUTPUT], head_dim)
        if not {Role.QUERY, Role.KEY, Role.VALUE} <= by_role.keys():
            raise self._unsupported(f"{path} has no projections to queries, keys and values that are known")
        query, key, value, output = (by_role[r] for r in (Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT))
        return BlockAttention(path, module, block.layer, head_dim, query, key, value, output)

    def _head_dim(self, attention: nn.Module) -> int:
        for holder in (attention, self.config):
            for name in ("head_dim", "attention_head_size"):
                width = getattr(holder, name, None)
                if isinstance(width, int):
                    return width
        hidden, heads = (getattr(self.config, name, None) for name in ("hidden_size", "num_attention_heads"))
        if not isinstance(hidden, int) or not isinstance(heads, int):
            raise self._unsupported("its config has neither head_dim nor hidden_size and num_attention_heads")
        return hidden // heads

    def _split(self, path: str, layer: LinearLayer, output: Projection, head_dim: int) -> dict[Role, Projection]:
        """Split one layer into queries, keys and values: as many queries as the output takes, the rest halved."""
        queries, rows = shape_of(output.module)[1], shape_of(layer)[0]
        keys = (rows - queries) // 2
        if keys <= 0 or keys % head_dim or rows != queries + 2 * keys:
            raise self._unsupported(f"{path} packs queries, keys and values in an order that is not known")
        parts: Sequence[slice | Tensor]
        if path.rpartition(".")[2] in _BY_HEAD:
            indices = torch.arange(rows, device=layer.weight.device)
            groups = indices.view(keys // head_dim, -1, head_dim)
            parts = [groups[:, part].flatten() for part in (slice(0, -2), slice(-2, -1), slice(-1, None))]
        else:
            parts = [slice(0, queries), slice(queries, queries + keys), slice(queries + keys, rows)]
        roles = (Role.QUERY, Role.KEY, Role.VALUE)
        return {role: Projection(path, layer, rows) for role, rows in zip(roles, parts, strict=True)}

    def _unsupported(self, why: str) -> AdapterlabError:
        return AdapterlabError(
            f"{type(self.model).__name__} is not a decoder that can be adapted this way: {why}; take a method that adapts "
            "linear layers, such as lora or hra"
        )
