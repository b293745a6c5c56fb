"""LoRA: a low-rank update of the weight.

>>> import torch
>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("lora", rank=2), torch.eye(4)
>>> state = method.init(weight, Context.of_layer(weight))
>>> state["a"].shape, state["b"].shape, torch.equal(method.weight(state, weight), weight)
(torch.Size([2, 4]), torch.Size([4, 2]), True)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_layout import PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import PeftSource, PeftStored, padded
from adapterlab.adapters.rank.lora_starts import STARTS, SUBTRACTED
from adapterlab.adapters.rebuild import times_in_backward
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class LoRA(LinearAdapter):
    """`W' = W + strength * scale * B A`.

    `A (rank, in)` starts uniform and `B (out, rank)` at zero. `scale` is `alpha / rank` (Hu et al. 2021, section 4.1).
    With another `start` whose product `B0 A0` is not zero, the update is `scale * (B A - B0 A0)`; dropout then applies
    to the whole difference.
    """

    name = "lora"
    title = "Low-rank adaptation"
    theme = Theme.RANK
    claim = "The change that a task needs is low-rank."
    paper = "https://arxiv.org/abs/2106.09685"
    size_knob = "rank"
    peft_kinds = ("LORA",)
    peft_transposable = True

    rank: int = 8
    """Rank of the update."""
    alpha: float = 16.0
    """Numerator of `scale`."""
    rslora: bool = False
    """True for `scale = alpha / sqrt(rank)` (rsLoRA, Kalajdzievski 2023)."""
    dropout: float = 0.0
    """Probability that an input feature of `A` is dropped in training mode."""
    lr_ratio: float = 1.0
    """Learning rate of `B` relative to that of `A`: LoRA+, whose authors take 16 (Hayou, Ghosh and Yu 2024)."""
    start: str = "uniform"
    """One of `uniform`; `gaussian`; `orthogonal`; `olora`, `milora` and `mica`, from the weight; `eva`, `corda` and
    `corda_kpm`, from the inputs of the layer in `attach(..., runs=)`; `lora_ga`, from the gradient of the loss in
    `attach(..., loss=)`; `loftq`, from the weight before quantization in `attach(..., original=)`. `lora_starts.py`
    describes each."""
    train_a: bool = True
    """False to train `B` alone (LoRA-FA, Zhang et al. 2023, section 3)."""
    project: bool = False
    """True, with `train_a=False`, to multiply `B`'s gradient by `(scale^2 A A^T)^-1`: a step of gradient descent is then
    the step of `scale * B A` nearest to one along the weight's own gradient, as in PEFT's LoRA-FA optimizer."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        rank = RankAtMost("rank", factor=2 if self.start in SUBTRACTED else 1)
        return (rank,) if self.start == "loftq" else (IdentityAtInit(), rank)

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.start not in STARTS:
            return f"start {self.start!r} is not one of {', '.join(STARTS)}"
        if self.start == "orthogonal" and self.rank % 2:
            return f"rank {self.rank} is odd, and the orthogonal start halves it: give an even rank"
        if self.start == "mica" and not self.train_a:
            return "start 'mica' trains A alone, so train_a=False would leave nothing to train: give train_a=True"
        if self.project and self.train_a:
            return "project=True needs an A that is not trained: give train_a=False"
        return super().validate(shapes)

    @property
    def lr_ratios(self) -> Mapping[str, float]:
        return {"b": self.lr_ratio}

    @property
    def scale(self) -> float:
        """Factor on `B A`."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        a, b = STARTS[self.start](weight, self.rank, self.scale, context)
        factors = {"a": a.contiguous(), "b": b.contiguous()}
        frozen = {"a0": a.clone(), "b0": b.clone()} if self.start in SUBTRACTED else {}
        fixed = {"a"} if not self.train_a else {"b"} if self.start == "mica" else set()
        trainable = {name: tensor for name, tensor in factors.items() if name not in fixed}
        derived = {"inverse": inverse_gram(factors["a"], self.scale)} if self.project else {}
        return State(trainable, {**{name: factors[name] for name in fixed}, **frozen}, derived)

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        a, b = self.factors(state)
        return weight + strength * self.scale * (b @ a)

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        a, b = self.factors(state)
        return linear(x) + affine(affine(x, a) * (strength * self.scale), b)

    def factors(self, state: State) -> tuple[Float[Tensor, "whole in"], Float[Tensor, "out whole"]]:
        """Return `A` and `B`; with a start that is subtracted, `[A; A0]` and `[B, -B0]`, of twice the rank.

        Args:
            state: State of the site.
        """
        a, b = state["a"], state["b"]
        if self.project:
            b = times_in_backward(b, state["inverse"])
        if self.start not in SUBTRACTED:
            return a, b
        return torch.cat([a, state["a0"]]), torch.cat([b, -state["b0"]], 1)

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        # Of twice the rank, such an update has twice the `alpha` for the same scale, or the root of it with `rslora`.
        double = (2**0.5 if self.rslora else 2) if self.start in SUBTRACTED else 1
        config = {
            "peft_type": "LORA",
            "r": self.rank * (2 if self.start in SUBTRACTED else 1),
            "lora_alpha": self.alpha * double,
            "use_rslora": self.rslora,
            "lora_dropout": self.dropout,
        }

        def factors(site: PeftSite) -> dict[str, Tensor]:
            a, b = self.factors(site.state)
            return {"lora_A.weight": a, "lora_B.weight": b}

        return per_site(config, sites, factors)

    @classmethod
    def from_peft(cls, source: PeftSource) -> LoRA | None:
        settings = source.settings
        start = settings.get("init_lora_weights", True)
        if settings.flag("use_dora") or start not in (*STARTS_ON_THE_BASE, *PEFT_STARTS):
            return None
        settings.only_at_start("eva_config", "megatron_core", "qalora_group_size")
        rank = max(source.sizes("lora_A.weight"), default=0)
        return cls(
            rank=rank,
            alpha=settings.number("lora_alpha", 8),
            rslora=settings.flag("use_rslora"),
            dropout=settings.number("lora_dropout"),
            start=str(start) if start in PEFT_STARTS else "uniform",
        )

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        # A layer with another rank is filled up with zeros, which get no gradient; another scale is multiplied into B.
        a, b = site.take("lora_A.weight"), site.take("lora_B.weight")
        scale = peft_scale(site.source, site.path, len(a)) / self.scale
        return {"a": padded(a, self.rank, 0), "b": padded(b * scale, self.rank, 1)}


def inverse_gram(a: Float[Tensor, "rank in"], scale: float) -> Float[Tensor, "rank rank"]:
    """Return `(scale^2 A A^T)^-1`, the pseudo-inverse if `A` has a lower rank.

    Args:
        a: The factor `A`.
        scale: Factor on `B A`.
    """
    gram = a @ a.T
    return gram if gram.is_meta else torch.linalg.pinv(gram, hermitian=True) / scale**2


STARTS_ON_THE_BASE: Sequence[object] = (True, False, "gaussian", "orthogonal", "eva")
"""PEFT's starts of a LoRA that leave the base weight as it is."""
PEFT_STARTS: Sequence[object] = ("olora",)
"""PEFT's starts that it subtracts from the base weight, and again when it loads the adapter."""


def peft_scale(source: PeftSource, path: str, rank: int) -> float:
    """Return PEFT's factor on `B A` at one layer.

    Args:
        source: A LoRA of PEFT.
        path: Path of the layer; empty for the factor without `alpha_pattern`.
        rank: Rank at this layer.
    """
    settings = source.settings
    settings.get("r"), settings.get("rank_pattern")  # the tensors have the ranks
    alpha = settings.at(path, "alpha_pattern", settings.number("lora_alpha", 8))
    return alpha / (rank**0.5 if settings.flag("use_rslora") else rank)
