"""VB-LoRA: a low-rank update whose factors are mixtures of vectors from a bank that all layers share.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("vblora", rank=2, vectors=8, length=4), torch.eye(8)
>>> a, b = method.factors(method.init(weight, Context.of_layer(weight)))
>>> a.shape, b.shape
(torch.Size([2, 8]), torch.Size([8, 2]))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Adapter, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import Invariant, RankAtMost
from adapterlab.adapters.linear import Linear, LinearAdapter, common_divisors, in_sixteenths
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import PeftSource, PeftStored
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class VBLoRA(LinearAdapter):
    """`W' = W + strength * B A`, each sub-vector of `length` numbers in `A` and `B` a mixture of `top` vectors of one bank.

    `bank (vectors, length)` is trained and shared by all sites. A sub-vector is `softmax(top-k of its logits) @ bank`, with
    logits `logits_a (rank, in / length, vectors)` and `logits_b (out / length, rank, vectors)` (Li, Han and Ji 2024,
    equations 3.2 and 3.3, algorithm 1). The bank starts uniform within 0.02, and the logits normal with variance 0.01
    (section 4.1). With a bank of zeros no gradient would reach the logits, so the model differs a little from the base
    from the start. The saved file has the bank and, for each sub-vector, the numbers of the selected vectors and `top - 1`
    weights (section 3.4); a loaded adapter can only train the mixture of the selected vectors.
    """

    name = "vblora"
    title = "Low-rank adaptation from a vector bank"
    theme = Theme.SHARED
    claim = "The changes of all layers are mixtures of the same few vectors."
    paper = "https://arxiv.org/abs/2405.15179"
    size_knob = "vectors"
    peft_kinds = ("VBLORA",)
    peft_names: ClassVar[Mapping[str, str]] = {"vblora_logits_A": "logits_a", "vblora_logits_B": "logits_b"}

    rank: int = 4
    """Rank of the update."""
    vectors: int = 256
    """Number of vectors in the bank."""
    length: int = 256
    """Length of a vector, a divisor of every side of the layers."""
    top: int = 2
    """Number of vectors in a mixture."""
    bank_lr_ratio: float = 0.1
    """Learning rate of the bank relative to that of the logits; the paper has 0.001 and 0.01 (section 4.1)."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return (RankAtMost("rank"), MixedFromBank())

    @property
    def lr_ratios(self) -> Mapping[str, float]:
        return {"bank": self.bank_lr_ratio}

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        return in_sixteenths(self.top, 2**14)  # a bank may have thousands of vectors

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if problem := super().validate(shapes):
            return problem
        if not 1 <= self.top <= self.vectors:
            return f"top {self.top} does not fit a bank of {self.vectors} vectors: give 1 to {self.vectors}"
        fits = common_divisors(side for shape in shapes for side in shape)
        if self.length in fits:
            return None
        return f"length {self.length} does not divide every side: give one of {', '.join(map(str, fits))}"

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        return State(
            {
                "bank": context.share("bank", lambda: context.uniform(self.vectors, self.length, bound=0.02)),
                "logits_a": context.normal(self.rank, columns // self.length, self.vectors, std=0.1),
                "logits_b": context.normal(rows // self.length, self.rank, self.vectors, std=0.1),
            }
        )

    def mixture(self, logits: Float[Tensor, "*parts vectors"]) -> Float[Tensor, "*parts vectors"]:
        """Return the weight of every vector in each sub-vector; all but `top` weights are zero.

        Args:
            logits: Logits of the vectors.
        """
        top = logits.topk(self.top, dim=-1)
        # Zeros allow a product with the whole bank, whose gradient is a product too instead of a scatter.
        return torch.zeros_like(logits).scatter(-1, top.indices, top.values.softmax(-1))

    def factors(self, state: State) -> tuple[Float[Tensor, "rank in"], Float[Tensor, "out rank"]]:
        """Return `A` and `B`.

        Args:
            state: State of the site.
        """
        a = self.mixture(state["logits_a"]) @ state["bank"]
        b = self.mixture(state["logits_b"]) @ state["bank"]
        return a.flatten(-2), b.transpose(-1, -2).flatten(-3, -2)

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        a, b = self.factors(state)
        return weight + strength * (b @ a)

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        a, b = self.factors(state)
        return linear(x) + affine(affine(x, a) * strength, b)

    def pack(self, state: State) -> State:
        packed = {"bank": state["bank"]}
        for side in ("a", "b"):
            top = state[f"logits_{side}"].topk(self.top, dim=-1)
            packed[f"chosen_{side}"] = top.indices.to(torch.uint8 if self.vectors <= 256 else torch.int32)
            # Softmax depends only on the differences of the logits.
            packed[f"gaps_{side}"] = top.values[..., 1:] - top.values[..., :1]
        return State(packed)

    def index_bound(self, name: str, shape: tuple[int, int] | None) -> int | None:
        return self.vectors

    def unpack(self, state: State) -> State:
        logits = {}
        for side in ("a", "b"):
            chosen, gaps = state[f"chosen_{side}"].long(), state[f"gaps_{side}"]
            values = torch.cat([gaps.new_zeros(*gaps.shape[:-1], 1), gaps], -1)
            empty = gaps.new_full((*gaps.shape[:-1], self.vectors), -torch.inf)
            logits[f"logits_{side}"] = empty.scatter(-1, chosen, values)
        return State({"bank": state["bank"], **logits})

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        if any("logits_a" not in site.state.trainable for site in sites):
            raise CannotExportError("it was loaded from a file, which has only the selected vectors")
        config = {
            "peft_type": "VBLORA",
            "r": self.rank,
            "num_vectors": self.vectors,
            "vector_length": self.length,
            "topk": self.top,
        }
        return per_site(
            config,
            sites,
            self.peft_names,
            shared={"base_model.vblora_vector_bank": sites[0].state["bank"]},
        )

    @classmethod
    def from_peft(cls, source: PeftSource) -> VBLoRA | None:
        settings = source.settings
        settings.only_at_start("init_vector_bank_bound", "init_logits_std")
        settings.only_in_training("vblora_dropout")
        return cls(
            rank=settings.whole("r", 4),
            vectors=settings.whole("num_vectors", 256),
            length=settings.whole("vector_length", 256),
            top=settings.whole("topk", 2),
        )

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        bank = site.take_shared("base_model.vblora_vector_bank")
        if not site.settings.flag("save_only_topk_weights"):
            return {**super().peft_state(site), "bank": bank}
        logits = {}
        for name, own in self.peft_names.items():
            first = site.take(f"{name}_topk_weights")
            weights = torch.cat([first, 1 - first.sum(-1, keepdim=True)], -1)
            empty = weights.new_full((*weights.shape[:-1], self.vectors), -torch.inf)
            logits[own] = empty.scatter(-1, site.take(f"{name}_topk_indices").long(), weights.log())
        return {**logits, "bank": bank}


@dataclass(frozen=True)
class MixedFromBank(Invariant):
    """Every sub-vector of a factor is an average of vectors of the bank, so it is at most as long as the longest of them."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, VBLoRA)
        longest = torch.linalg.vector_norm(state["bank"], dim=-1).max()
        a, b = adapter.factors(state)
        parts = torch.cat([a.reshape(-1, adapter.length), b.T.reshape(-1, adapter.length)])
        return max(0.0, float((torch.linalg.vector_norm(parts, dim=-1).max() / longest).detach()) - 1)
