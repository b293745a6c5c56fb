"""PEFT's own names and shapes for what our methods hold, a function for each method.

What PEFT has no method for but is low-rank is laid out as the plain LoRA that changes the weights by the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isqrt
from typing import Any, cast

import torch
from torch import Tensor, nn

from adapterlab.adapters.base import State
from adapterlab.adapters.invariants import RankAtMost
from adapterlab.adapters.rotations import skew_symmetric
from adapterlab.adapters.svd.pissa import as_lora
from adapterlab.errors import AdapterlabError
from adapterlab.surgery.handle import Handle
from adapterlab.surgery.sites.linear import LinearSite
from adapterlab.surgery.sites.parameter import ParameterSite
from adapterlab.surgery.sites.prefix import PrefixSite

WIDEST = 256
"""The largest rank of a LoRA that stands in for another method."""


class CannotExportError(AdapterlabError):
    """What the adapter does cannot be written as PEFT's."""


@dataclass
class Layer:
    """A linear layer and the state that stands on it."""

    path: str
    module: nn.Module
    site: LinearSite

    @property
    def state(self) -> State:
        return self.site.state


@dataclass
class Folder:
    """What PEFT's two files hold."""

    config: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """By the path of a layer and PEFT's own name."""
    shared: dict[str, Tensor] = field(default_factory=dict)
    """What stands once in the file, by its whole name there."""


Maker = Callable[[Any, list[Layer]], Folder]


def _plain(tensors: Callable[[State], Mapping[str, Tensor]], **config: Any) -> Maker:
    """A method whose tensors PEFT has under other names; a setting that is a string is read from that field of ours."""

    def make(adapter: Any, layers: list[Layer]) -> Folder:
        settings = {
            key: getattr(adapter, value[1:]) if isinstance(value, str) and value[:1] == "." else value
            for key, value in config.items()
        }
        named = {f"{layer.path}.{name}": tensor for layer in layers for name, tensor in tensors(layer.state).items()}
        return Folder(settings, named)

    return make


def _low_rank_pair(state: State) -> dict[str, Tensor]:
    return {"lora_A.weight": state["a"], "lora_B.weight": state["b"]}


def _pissa(adapter: Any, layers: list[Layer]) -> Folder:
    pairs = {layer.path: as_lora(layer.state) for layer in layers}
    plain = next(iter(pairs.values()))[0]
    config = {"peft_type": "LORA", "r": plain.rank, "lora_alpha": plain.alpha, "lora_dropout": 0.0}
    return Folder(config, {f"{p}.{k}": t for p, (_, s) in pairs.items() for k, t in _low_rank_pair(s).items()})


def _adalora(adapter: Any, layers: list[Layer]) -> Folder:
    # What is pruned stays zero, so the values can be poured into one of the factors.
    found = _plain(
        lambda s: {"lora_A.weight": s["q"] * s["values"][:, None], "lora_B.weight": s["p"]},
        peft_type="LORA",
        r=".rank",
        lora_alpha=".alpha",
        lora_dropout=0.0,
    )
    return found(adapter, layers)


def low_rank(adapter: Any, layers: list[Layer]) -> Folder:
    """The plain LoRA that changes every weight by the same, where the method bounds the change's rank."""
    bounds = [i for i in adapter.invariants if isinstance(i, RankAtMost)]
    if not bounds:
        raise CannotExportError("its change has no bounded rank")
    rank = min(bound.rank(adapter) for bound in bounds)
    rank = min(rank, *(min(layer.site.below.weight.shape) for layer in layers))
    if rank > WIDEST:
        raise CannotExportError(f"its change has rank {rank}")
    tensors = {}
    for layer in layers:
        before, after = layer.site.base_and_adapted()
        if layer.site.bias is not layer.site.below.bias:
            raise CannotExportError(f"it changes biases, as at {layer.path}, and a LoRA does not")
        change = (after - before).detach().double()
        u, s, vt = torch.linalg.svd(change, full_matrices=False)
        if s[rank:].sum() > 1e-5 * s.sum():
            raise CannotExportError(f"at {layer.path} its change has a rank above {rank}")
        root = s[:rank].sqrt()
        tensors[f"{layer.path}.lora_A.weight"] = (root[:, None] * vt[:rank]).float()
        tensors[f"{layer.path}.lora_B.weight"] = (u[:, :rank] * root).float()
    return Folder({"peft_type": "LORA", "r": rank, "lora_alpha": rank, "lora_dropout": 0.0}, tensors)


def _ia3(adapter: Any, layers: list[Layer]) -> Folder:
    onward = [layer.path for layer in layers if "gain_in" in layer.state.trainable]
    tensors = {
        f"{layer.path}.ia3_l": layer.state["gain_in"][None]
        if layer.path in onward
        else layer.state["gain_out"][:, None]
        for layer in layers
    }
    return Folder({"peft_type": "IA3", "feedforward_modules": onward}, tensors)


def _vera(adapter: Any, layers: list[Layer]) -> Folder:
    make = _plain(
        lambda s: {"vera_lambda_d": s["gain_d"], "vera_lambda_b": s["gain_b"]},
        peft_type="VERA",
        r=".rank",
        save_projection=True,
    )
    found, state = make(adapter, layers), layers[0].state
    found.shared = {"base_model.vera_A": state["a"], "base_model.vera_B": state["b"]}
    return found


def _vblora(adapter: Any, layers: list[Layer]) -> Folder:
    make = _plain(
        lambda s: {"vblora_logits_A": s["logits_a"], "vblora_logits_B": s["logits_b"]},
        peft_type="VBLORA",
        r=".rank",
        num_vectors=".vectors",
        vector_length=".length",
        topk=".top",
    )
    if any("logits_a" not in layer.state.trainable for layer in layers):
        raise CannotExportError("it was loaded with its choice of vectors alone")
    found = make(adapter, layers)
    found.shared = {"base_model.vblora_vector_bank": layers[0].state["bank"]}
    return found


def _oft(adapter: Any, layers: list[Layer]) -> Folder:
    series = hasattr(adapter, "neumann_terms")
    if series and adapter.neumann_terms < 3:
        raise CannotExportError("PEFT's series has four terms or more")
    sign = 1 if series else -1  # PEFT's exact transform is the inverse of the paper's
    config = {
        "peft_type": "OFT",
        "r": adapter.block_count,
        "oft_block_size": 0 if adapter.block_count else adapter.block_size,
        "block_share": adapter.block_share,
        "module_dropout": 0.0,
        "use_cayley_neumann": series,
        **({"num_cayley_neumann_terms": adapter.neumann_terms + 1} if series else {}),
    }
    return Folder(config, {f"{layer.path}.oft_R.weight": sign * layer.state["skew"] for layer in layers})


def _boft(adapter: Any, layers: list[Layer]) -> Folder:
    if adapter.factors != 1:
        raise CannotExportError("PEFT multiplies several factors on a GPU with its own compiled code alone")
    tensors = {}
    for layer in layers:
        state = layer.state
        rows = layer.site.below.weight.shape[0]
        scale = state["scale"] if adapter.rescale else torch.ones(rows)
        tensors[f"{layer.path}.boft_R"] = -skew_symmetric(state["skew"], adapter.block_size)
        tensors[f"{layer.path}.boft_s"] = scale[:, None]
    return Folder({"peft_type": "BOFT", "boft_block_size": adapter.block_size, "boft_n_butterfly_factor": 1}, tensors)


def _lokr(adapter: Any, layers: list[Layer]) -> Folder:
    names = {"c": "w1", "c_a": "w1_b", "c_b": "w1_a", "d": "w2", "d_a": "w2_b", "d_b": "w2_a"}
    tensors, ranks, alphas = {}, {}, {}
    sides = {side for layer in layers for side in layer.site.below.weight.shape}
    # PEFT's small side is `decompose_factor` wherever that divides, ours at most the root; without a factor they agree.
    bounded = all(side % adapter.factor == 0 and adapter.factor <= isqrt(side) for side in sides if adapter.factor)
    if adapter.factor and not bounded and any(adapter.factor < isqrt(side) for side in sides):
        raise CannotExportError(f"PEFT would cut a side otherwise than by {adapter.factor}")
    for layer in layers:
        for name, tensor in layer.state.trainable.items():
            tensors[f"{layer.path}.lokr_{names[name]}"] = tensor
        small, large = adapter.split(*layer.site.below.weight.shape)
        # PEFT factors a side where the rank is below half of its larger length, and knows nothing but the rank.
        rank = adapter.rank
        if "d" in layer.state.trainable:
            rank = max(rank, -(-max(large) // 2))
        if ("d" in layer.state.trainable) != (rank >= max(large) / 2) or ("c" in layer.state.trainable) == (
            adapter.both and rank < max(small) / 2
        ):
            raise CannotExportError(f"at {layer.path} PEFT would factor other sides")
        ranks[layer.path], alphas[layer.path] = rank, adapter.alpha * rank / adapter.rank
    config = {
        "peft_type": "LOKR",
        "r": adapter.rank,
        "alpha": adapter.alpha,
        "decompose_factor": adapter.factor if adapter.factor and bounded else -1,
        "decompose_both": adapter.both,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
    }
    return Folder(config, tensors)


def _miss(adapter: Any, layers: list[Layer]) -> Folder:
    if not adapter.efficient:
        raise CannotExportError("PEFT has the efficient form alone")
    return _plain(lambda s: {"miss_block": s["d"].T}, peft_type="MISS", r=".rank")(adapter, layers)


def _shira(adapter: Any, layers: list[Layer]) -> Folder:
    tensors = {}
    for layer in layers:
        rows, columns = layer.site.below.weight.shape
        entries = layer.state["entries"]
        if len(entries) != adapter.rank * (rows + columns):
            raise CannotExportError(f"at {layer.path} it has another number of entries than PEFT's")
        tensors[f"{layer.path}.shira_weight"] = layer.state["values"]
        tensors[f"{layer.path}.shira_indices"] = torch.stack([entries // columns, entries % columns]).int()
    return Folder({"peft_type": "SHIRA", "r": adapter.rank}, tensors)


def _c3a(adapter: Any, layers: list[Layer]) -> Folder:
    # PEFT divides by the input's width.
    tensors = {
        f"{layer.path}.c3a_kernel": layer.state["kernel"]
        * (adapter.scale(layer.site.below.weight.shape[1]) * layer.site.below.weight.shape[1])
        for layer in layers
    }
    return Folder({"peft_type": "C3A", "block_size": adapter.block_size}, tensors)


def _delora(adapter: Any, layers: list[Layer]) -> Folder:
    if not adapter.zero_start or adapter.frobenius:
        raise CannotExportError("PEFT's starts elsewhere")
    make = _plain(
        lambda s: {
            "delora_A": s["a"],
            "delora_B": s["b"],
            "delora_lambda": s["boundary"],
            "delora_w_norm": s["norm"],
        },
        peft_type="DELORA",
        r=".rank",
        delora_lambda=".boundary",
    )
    return make(adapter, layers)


def _road(adapter: Any, layers: list[Layer]) -> Folder:
    # PEFT keeps, for variant 4, the diagonal's entries of a group (11, then 22) before the others (12, then 21).
    order = {1: [0], 2: [0, 1], 4: [0, 3, 1, 2]}[adapter.variant]
    tensors = {
        f"{layer.path}.{name}": layer.state[ours][order]
        .unflatten(1, (-1, adapter.group_size // 2))
        .transpose(0, 1)
        .flatten()
        for layer in layers
        for name, ours in (("road_theta", "angles"), ("road_alpha", "scales"))
    }
    config = {"peft_type": "ROAD", "variant": f"road_{adapter.variant}", "group_size": adapter.group_size}
    return Folder(config, tensors)


NATIVE: dict[str, Maker] = {
    "lora": _plain(
        _low_rank_pair, peft_type="LORA", r=".rank", lora_alpha=".alpha", use_rslora=".rslora", lora_dropout=".dropout"
    ),
    "dora": _plain(
        lambda s: _low_rank_pair(s) | {"lora_magnitude_vector": s["magnitude"]},
        peft_type="LORA",
        r=".rank",
        lora_alpha=".alpha",
        use_dora=True,
        lora_dropout=0.0,
    ),
    "pissa": _pissa,
    "adalora": _adalora,
    "ia3": _ia3,
    "vera": _vera,
    "vblora": _vblora,
    "oft": _oft,
    "oftv2": _oft,
    "boft": _boft,
    "hra": _plain(lambda s: {"hra_u": s["normals"].T}, peft_type="HRA", r=".rank", apply_GS=".strict"),
    "loha": _plain(
        lambda s: {"hada_w1_a": s["b1"], "hada_w1_b": s["a1"], "hada_w2_a": s["b2"], "hada_w2_b": s["a2"]},
        peft_type="LOHA",
        r=".rank",
        alpha=".alpha",
    ),
    "lokr": _lokr,
    "miss": _miss,
    "bone": _plain(lambda s: {"miss_block": s["b"]}, peft_type="MISS", r=".block_size", init_weights="bat"),
    "shira": _shira,
    "c3a": _c3a,
    "delora": _delora,
    "road": _road,
}
TRANSPOSED = {"lora", "dora", "pissa", "adalora", "ia3", "vera"}
"""Those that PEFT has for a layer that keeps its weight transposed (GPT-2's)."""


def _prompt(handle: Handle) -> Folder:
    (site,) = handle.sites.values()
    return _embeddings(handle, "PROMPT_TUNING", site.state["prompt"], grouped=False)


def _prefix(handle: Handle) -> Folder:
    pairs = [cast(PrefixSite, site).prefix() for site in handle.sites.values()]
    rows = torch.cat([rows for pair in pairs for rows in (pair.key, pair.value)], dim=1)
    return _embeddings(handle, "PREFIX_TUNING", rows, grouped=True)


def _embeddings(handle: Handle, kind: str, rows: Tensor, grouped: bool) -> Folder:
    """What PEFT calls a prompt encoder, as its table; as narrow as the keys where they are `grouped`."""
    if handle.new_heads:
        raise CannotExportError(f"PEFT's {kind} trains no new head along")
    model = cast(Any, handle.model).config.get_text_config()
    heads, width = model.num_attention_heads, model.hidden_size
    kept = getattr(model, "num_key_value_heads", None) or heads if grouped else heads
    config = {
        "peft_type": kind,
        "num_virtual_tokens": len(rows),
        "num_layers": model.num_hidden_layers,
        "num_attention_heads": kept,
        "token_dim": width // heads * kept,
        "num_transformer_submodules": 1,
    }
    return Folder(config, shared={"prompt_embeddings": rows})


def _trainable_tokens(handle: Handle) -> Folder:
    ((path, site),) = handle.sites.items()
    module = path.rpartition(".")[0]
    config = {
        "peft_type": "TRAINABLE_TOKENS",
        "token_indices": site.state["ids"].tolist(),
        "target_modules": [module],
    }
    return Folder(config, {f"{module}.trainable_tokens_delta": site.state["rows"]})


def _ln_tuning(handle: Handle) -> Folder:
    tensors, modules = {}, dict[str, None]()
    for path, site in handle.sites.items():
        module, _, name = path.rpartition(".")
        modules[module] = None
        _, tensors[f"{module}.ln_tuning_layers.{name}"] = cast(ParameterSite, site).base_and_adapted()
    return Folder({"peft_type": "LN_TUNING", "target_modules": list(modules)}, tensors)


WHOLE: dict[str, Callable[[Handle], Folder]] = {
    "prompt": _prompt,
    "prefix": _prefix,
    "ptuning_v2": _prefix,
    "trainable_tokens": _trainable_tokens,
    "ln_tuning": _ln_tuning,
}
"""Those that stand elsewhere than on linear layers."""
