"""BOFT: a rotation of the input as a product of sparse butterfly factors, as in the fast Fourier transform.

>>> from adapterlab.adapters import Context, adapter
>>> method, weight = adapter("boft", block_size=4, factors=2), torch.eye(8)
>>> state = method.init(weight, Context.of_layer(weight))
>>> state["skew"].shape, torch.equal(method.weight(state, weight), weight)
(torch.Size([2, 2, 6]), True)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, PreservesGram
from adapterlab.adapters.linear import Linear, LinearAdapter, common_divisors
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import CannotLoadError, PeftSource, PeftStored
from adapterlab.adapters.rotations import cayley, full_precision, skew_symmetric
from adapterlab.adapters.state import State

LARGEST_BLOCK = 64
"""Largest width of the blocks that several factors are multiplied into before they are applied."""


@dataclass(frozen=True)
class BOFT(LinearAdapter):
    """`W' = W R^T`, `R = B_m ... B_1` with `m` `factors`, each a butterfly of rotations of `block_size` features.

    `B_i` combines halves of blocks that are `2^(i-1)` halves apart (Liu et al. 2023, equation 2). Its blocks are Cayley
    transforms of `strength` times the skew-symmetric matrices in `skew (factors, in / block_size, block_size (block_size -
    1) / 2)`, which start at zero. One factor is OFT; with `log2(2 in / block_size)` factors `R` is dense.
    """

    name = "boft"
    title = "Butterfly orthogonal fine-tuning"
    theme = Theme.ORTHOGONAL
    claim = "Useful change is a dense rotation, and a product of a few sparse rotations is enough."
    paper = "https://arxiv.org/abs/2311.06243"
    size_knob = "block_size"
    peft_kinds = ("BOFT",)

    block_size: int = 8
    """Number of features in a block; even if there are several factors."""
    factors: int = 2
    """Number of sparse factors."""
    rescale: bool = False
    """True to also multiply rows by `1 + strength (scale - 1)`, with trained `scale (out,)` that starts at one. PEFT always
    does, and the paper's parameter counts for DeBERTa and DINO include it."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return (IdentityAtInit(),) if self.rescale else (IdentityAtInit(), PreservesGram("rows"))

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        spread = 2 ** (self.factors - 1)
        fits = common_divisors(columns for _, columns in shapes)
        return [d for d in fits if d * spread in fits and (self.factors == 1 or d % 2 == 0)]

    def validate(self, shapes: Sequence[tuple[int, int]]) -> str | None:
        if self.factors < 1:
            return f"factors {self.factors} is too small: give factors of 1 or more"
        fits = self.sizes(shapes)
        if not fits:
            need = "block_size * 2 ** (factors - 1) must divide every input width"
            return f"factors {self.factors} is too large: {need}; give factors below {self.factors}"
        if self.block_size not in fits:
            others = f"with {self.factors} factors give one of {', '.join(map(str, fits))}, or fewer factors"
            return f"block_size {self.block_size} does not fit every input width: {others}"
        return None

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        rows, columns = weight.shape
        size = self.block_size
        tensors = {"skew": context.zeros(self.factors, columns // size, size * (size - 1) // 2)}
        if self.rescale:
            tensors["scale"] = context.full(rows, value=1.0)
        return State(tensors)

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        for blocks in reversed(list(self.products(state, strength))):
            weight = _rotate(weight, blocks.permute(0, 1, 4, 5, 2, 3))
        return weight * (1 + strength * (state["scale"] - 1))[:, None] if self.rescale else weight

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        for blocks in self.products(state, strength):
            x = _rotate(x, blocks)
        if not self.rescale:
            return linear(x)
        y = affine(x, linear.weight) * (1 + strength * (state["scale"] - 1))
        return y if linear.bias is None else y + linear.bias

    def products(self, state: State, strength: float) -> Iterator[Float[Tensor, "runs apart halves half halves half"]]:
        """Yield `R` as a few block-diagonal matrices, in the order in which they are applied to a row vector.

        A block acts on the halves of one run that have the same position modulo `apart`.

        Args:
            state: State of the site.
            strength: As in `weight`.

        Yields:
            The blocks of one matrix, the product of consecutive factors.
        """
        rotations = cayley(skew_symmetric(strength * state["skew"], self.block_size))
        half = self.block_size // 2 or 1
        together = max(1, (LARGEST_BLOCK // half).bit_length() - 1)
        for end in range(self.factors, 0, -together):
            yield _product(rotations[max(0, end - together) : end], max(0, end - together))

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        if self.factors != 1:
            raise CannotExportError("PEFT needs compiled code on a GPU for several factors")

        def tensors(site: PeftSite) -> dict[str, Tensor]:
            scale = site.state["scale"] if self.rescale else torch.ones(site.base.shape[0])
            return {"boft_R": -skew_symmetric(site.state["skew"], self.block_size), "boft_s": scale[:, None]}

        config = {"peft_type": "BOFT", "boft_block_size": self.block_size, "boft_n_butterfly_factor": 1}
        return per_site(config, sites, tensors)

    @classmethod
    def from_peft(cls, source: PeftSource) -> BOFT | None:
        settings = source.settings
        settings.only_at_start("init_weights")
        settings.only_in_training("boft_dropout")
        if (factors := settings.whole("boft_n_butterfly_factor", 1)) != 1:
            raise CannotLoadError(f"boft_n_butterfly_factor={factors}: only 1 is read")
        sizes = set(source.sizes("boft_R", -1))
        if len(sizes) != 1:
            raise CannotLoadError(
                f"boft_block_num gives blocks of {sorted(sizes)} features, and here all have one size"
            )
        settings.only_at_start("boft_block_size", "boft_block_num")
        return cls(block_size=sizes.pop(), factors=1, rescale=True)

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        stored = site.take("boft_R")
        upper = torch.triu_indices(self.block_size, self.block_size, 1)
        skew = (stored.mT - stored)[..., upper[0], upper[1]] / 2
        return {"skew": skew, "scale": site.take("boft_s").flatten()}


def _product(
    rotations: Float[Tensor, "factors blocks size size"], first: int
) -> Float[Tensor, "runs apart halves half halves half"]:
    """Return the product of consecutive factors; `first` is the number of the first of them."""
    count, blocks, size = rotations.shape[:3]
    if size % 2:
        return rotations[0][:, None, None, :, None, :]
    half, halves, apart = size // 2, 2**count, 2**first
    runs = 2 * blocks // (halves * apart)
    eye = torch.eye(halves * half, dtype=rotations.dtype, device=rotations.device)
    product = eye.expand(runs, apart, -1, -1)
    with full_precision(rotations):
        for i in reversed(range(count)):
            # Write a half's position in the product's block as a binary number: factor i combines the values of digit i.
            high, low = halves // 2 ** (i + 1), 2**i
            factor = rotations[i].reshape(runs, high, low, apart, 2, half, 2, half)
            product = torch.unflatten(product, -1, (high, 2, low, half))
            product = torch.einsum("goxhalw,ghloawbv->goxhblv", product, factor).flatten(-4)
    return product.reshape(runs, apart, halves, half, halves, half)


def _rotate(
    x: Float[Tensor, "*batch width"], blocks: Float[Tensor, "runs apart halves half halves half"]
) -> Float[Tensor, "*batch width"]:
    runs, apart, halves, half = blocks.shape[:4]
    grouped = torch.unflatten(x, -1, (runs, halves, apart, half))
    return torch.einsum("...gaow,goawbv->...gbov", grouped, blocks).flatten(-4)
