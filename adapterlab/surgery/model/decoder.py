"""A decoder seen by structure: its backbone, its blocks, and in each block the attention.

Nothing here knows a model by name. A block is an entry of the longest list of modules that all hold projections to keys
and values; those are told by the names that projections bear everywhere (`adapterlab.surgery.model.linear_layers.role_of`).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Role
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.model.linear_layers import linears, role_of
from adapterlab.surgery.model.submodules import LINEAR_SITES, in_adapter
from adapterlab.surgery.model.weights import quantized, shape_of, weight_of

# One layer for queries, keys and values: all queries, then all keys, then all values; or, as Megatron has it, for each
# key-value head its queries, its key and its value.
_FUSED = {"c_attn", "qkv_proj", "Wqkv", "query_key_value"}
_BY_HEAD = {"query_key_value"}


@dataclass(frozen=True, eq=False)
class Projection:
    """The rows of a linear layer that make the queries, the keys, the values or the output."""

    path: str
    module: nn.Module
    rows: slice | Tensor | None = None
    """None where the layer makes nothing else."""

    @property
    def fused(self) -> bool:
        """Whether the layer makes something else too."""
        return self.rows is not None

    @property
    def cut(self) -> slice | Tensor:
        """The rows of the layer."""
        return slice(None) if self.rows is None else self.rows

    @property
    def shape(self) -> tuple[int, int]:
        """How many rows, and how wide."""
        rows, columns = shape_of(self.module)
        if isinstance(self.rows, slice):
            rows = len(range(rows)[self.rows])
        elif self.rows is not None:
            rows = len(self.rows)
        return rows, columns

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        """Their weight."""
        return weight_of(self.module)[self.cut]

    @property
    def bias(self) -> Tensor | None:
        """Their bias."""
        bias = cast("Tensor | None", self.module.bias)
        return None if bias is None else bias[self.cut]

    def __call__(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        if not self.fused:
            return cast(Tensor, self.module(x))
        if self.module._modules.get(LINEAR_SITES) is None:
            return affine(x, self.weight, self.bias)
        return cast(Tensor, self.module(x))[..., self.cut]


@dataclass(frozen=True, eq=False)
class BlockAttention:
    """The self-attention of one block; an `Attention` as an adapter sees it."""

    path: str
    module: nn.Module
    layer: int
    head_dim: int
    query: Projection
    keys: Projection
    values: Projection
    output: Projection

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.keys.shape[1]

    @property
    def heads(self) -> int:
        """How many heads ask."""
        return self.query.shape[0] // self.head_dim

    @property
    def kv_heads(self) -> int:
        """How many heads answer."""
        return self.keys.shape[0] // self.head_dim

    def key(self, x: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens kv"]:
        """The layer's keys of `x`, before any position is put into them."""
        return self._seen_by(self.keys, x)

    def value(self, x: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens kv"]:
        """The layer's values of `x`."""
        return self._seen_by(self.values, x)

    def _seen_by(self, projection: Projection, x: Tensor) -> Tensor:
        module = projection.module
        return projection(x if quantized(module) else x.to(cast(Tensor, module.weight).dtype))


@dataclass(frozen=True, eq=False)
class Block:
    """One block of a decoder."""

    path: str
    module: nn.Module
    layer: int


class Decoder:
    """The structure of a decoder-only model.

    Raises `AdapterlabError` where it has none, at what cannot be made out.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.config: Any = getattr(model, "config", None)
        if getattr(self.config, "is_encoder_decoder", False):
            raise self._unknown("it has an encoder and a decoder; only decoders are known")

    @cached_property
    def backbone(self) -> nn.Module:
        """What makes the last hidden state of token ids: the innermost module with the embedding and the blocks in it."""
        path = self.blocks[0].path.rpartition(".")[0]
        while path:
            path = path.rpartition(".")[0]
            module = self.model.get_submodule(path)
            if any(part is self.embedding for part in module.modules()):
                return module
        return self.model

    @property
    def embedding(self) -> nn.Embedding:
        """The table of the tokens' embeddings."""
        found = getattr(self.model, "get_input_embeddings", lambda: None)()
        if not isinstance(found, nn.Embedding):
            raise self._unknown("it has no table of token embeddings (get_input_embeddings)")
        return found

    @cached_property
    def blocks(self) -> Sequence[Block]:
        """The blocks in order."""
        keyed = [path for path in linears(self.model) if role_of(path) is Role.KEY or path.rpartition(".")[2] in _FUSED]
        lists = []
        for path, module in self.model.named_modules():
            if isinstance(module, nn.ModuleList) and not in_adapter(path) and len(module):
                each = [f"{path}.{i}." for i in range(len(module))]
                if all(any(key.startswith(start) for key in keyed) for start in each):
                    lists.append((path, module))
        if not lists:
            raise self._unknown("no list of blocks that each hold an attention with known projections")
        path, blocks = max(lists, key=lambda found: len(found[1]))
        return [Block(f"{path}.{i}", block, i) for i, block in enumerate(blocks)]

    @cached_property
    def width(self) -> int:
        """Width of the residual stream."""
        return self.embedding.embedding_dim if not hasattr(self.config, "hidden_size") else int(self.config.hidden_size)

    @cached_property
    def attentions(self) -> Sequence[BlockAttention]:
        """The self-attention of each block."""
        return [self._attention(block) for block in self.blocks]

    @cached_property
    def mixes_linearly(self) -> bool:
        """Whether a score is a plain product of a query and a key: no rotation between them and no norm on them."""
        rotary = any(name.rpartition(".")[2].endswith("inv_freq") for name, _ in self.model.named_buffers())
        rotary = rotary or hasattr(self.config, "rotary_dim")
        normed = any("norm" in name.lower() for a in self.attentions for name, _ in a.module.named_children())
        return not rotary and not normed

    def _attention(self, block: Block) -> BlockAttention:
        found = {
            path: module
            for path, module in linears(self.model).items()
            if path.startswith(f"{block.path}.") and "cross" not in path.removeprefix(block.path)
        }
        by_role: dict[Role, Projection] = {}
        for path, module in found.items():
            by_role.setdefault(role_of(path), Projection(path, module))
        fused = next((path for path in found if path.rpartition(".")[2] in _FUSED), None)
        anchor = fused or (by_role[Role.KEY].path if Role.KEY in by_role else None)
        if anchor is None or Role.OUTPUT not in by_role:
            raise self._unknown(f"{block.path} has no projections to keys and to the output that are known")
        path = anchor.rpartition(".")[0]
        module = self.model.get_submodule(path)
        width = self._head_dim(module)
        if fused is not None:
            by_role |= self._split(fused, found[fused], by_role[Role.OUTPUT], width)
        if not {Role.QUERY, Role.KEY, Role.VALUE} <= by_role.keys():
            raise self._unknown(f"{path} has no projections to queries, keys and values that are known")
        query, key, value, output = (by_role[r] for r in (Role.QUERY, Role.KEY, Role.VALUE, Role.OUTPUT))
        return BlockAttention(path, module, block.layer, width, query, key, value, output)

    def _head_dim(self, attention: nn.Module) -> int:
        for holder in (attention, self.config):
            for name in ("head_dim", "attention_head_size"):
                if isinstance(getattr(holder, name, None), int):
                    return int(getattr(holder, name))
        return int(self.config.hidden_size) // int(self.config.num_attention_heads)

    def _split(self, path: str, module: nn.Module, output: Projection, head_dim: int) -> dict[Role, Projection]:
        """Queries, keys and values of one layer: as many queries as the output takes, the rest halved."""
        queries, rows = shape_of(output.module)[1], shape_of(module)[0]
        keys = (rows - queries) // 2
        if keys <= 0 or keys % head_dim or rows != queries + 2 * keys:
            raise self._unknown(f"{path} packs queries, keys and values in an order that is not known")
        cuts: Sequence[slice | Tensor]
        if path.rpartition(".")[2] in _BY_HEAD:
            places = torch.arange(rows, device=cast(Tensor, module.weight).device)
            groups = places.unflatten(0, (keys // head_dim, -1, head_dim))
            cuts = [groups[:, part].flatten() for part in (slice(0, -2), slice(-2, -1), slice(-1, None))]
        else:
            cuts = [slice(0, queries), slice(queries, queries + keys), slice(queries + keys, rows)]
        roles = (Role.QUERY, Role.KEY, Role.VALUE)
        return {role: Projection(path, module, rows) for role, rows in zip(roles, cuts, strict=True)}

    def _unknown(self, why: str) -> AdapterlabError:
        return AdapterlabError(f"{type(self.model).__name__} is no decoder that can be adapted this way: {why}")


class Arguments:
    """The arguments of a call by name, however they were passed; a hook changes them here."""

    def __init__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        signature = inspect.signature(type(module).forward)
        self.known = list(signature.parameters)[1:]
        self.values = dict(zip(self.known, args, strict=False)) | kwargs

    def __getitem__(self, name: str) -> Any:
        return self.values.get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.values[name] = value

    @property
    def past(self) -> int:
        """How many positions the cache holds already."""
        cache = self["past_key_values"]
        return 0 if cache is None else int(cache.get_seq_length())

    @property
    def size(self) -> tuple[int, int]:
        """Sequences and tokens of the call."""
        tokens = self["input_ids"] if self["input_ids"] is not None else self["inputs_embeds"]
        return tokens.shape[0], tokens.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the tokens are."""
        tokens = self["input_ids"] if self["input_ids"] is not None else self["inputs_embeds"]
        return cast(torch.device, tokens.device)

    def call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """As a pre-hook gives them back."""
        return (), self.values
