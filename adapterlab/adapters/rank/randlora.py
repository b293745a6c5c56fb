"""RandLoRA: a full-rank update made of random frozen matrices with trained diagonal factors.

>>> from adapterlab.adapters import Context, adapter
>>> weight = torch.eye(8)
>>> state = adapter("randlora", rank=4).init(weight, Context.of_layer(weight))
>>> {name: tuple(tensor.shape) for name, tensor in state.trainable.items()}
{'lambda': (2, 4), 'gamma': (2, 8)}
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear as affine

from adapterlab.adapters.base import Adapter, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.invariants import IdentityAtInit, Invariant, relative
from adapterlab.adapters.linear import Linear, LinearAdapter
from adapterlab.adapters.peft_layout import CannotExportError, PeftLayout, PeftSite, per_site
from adapterlab.adapters.peft_source import CannotLoadError, PeftSource, PeftStored, padded
from adapterlab.adapters.state import State


@dataclass(frozen=True)
class RandLoRA(LinearAdapter):
    """`W' = W + strength * alpha / rank * sum_j B_j diag(lambda_j) A diag(gamma_j)`, or its transpose where `out < in`.

    With `d` the smaller side of a weight and `D` the larger, `A (rank, d)` and the `n = ceil(d / rank)` matrices `B_j (D,
    rank)` are random, frozen and shared by all sites; each site uses the part that fits. `lambda (n, rank)`, which
    starts at zero, and `gamma (n, d)` are trained; a higher rank means fewer parameters (Albert et al. 2025, equation 4;
    `alpha` and the start of `gamma` are those of the authors' code). With `shared=False`, a control, every site draws
    matrices of its own; the trained parameters are as many.

    All bases together are as wide as the layer. A `d x d` layer therefore needs five products of its own size for each
    input, beside the base's two: two in the forward pass (through `A diag(gamma)` and through the bases), two in the
    backward pass, and one for the gradient of `gamma`, which layers cannot share. Built into the weight, the five become
    `(2 d + N) / N` for `N` inputs, which is less from about `N = d / 2` on.
    """

    name = "randlora"
    title = "Random-basis adaptation of full rank"
    theme = Theme.RANK
    claim = "The change needs full rank, but its directions can be random."
    paper = "https://arxiv.org/abs/2502.00987"
    size_knob = "rank"
    peft_kinds = ("RANDLORA",)

    rank: int = 32
    """Rank of each of the `n` terms; their sum has full rank."""
    alpha: float = 640.0
    """Numerator of the factor `alpha / rank`."""
    sparsity: float = 0.0
    """If above 0, the frozen entries are -1, 0 or 1 up to a scale, and one in `sparsity` is not zero (appendix C.6)."""
    shared: bool = True
    """False to give every site random directions of its own."""

    @property
    def invariants(self) -> tuple[Invariant, ...]:
        return IdentityAtInit(), InRandomBasis()

    def sizes(self, shapes: Sequence[tuple[int, int]]) -> Sequence[int]:
        # The largest rank for each number of bases: with the number fixed, a higher rank only adds parameters.
        smaller = [min(shape) for shape in shapes]
        ranks = sorted({-(-d // n) for d in set(smaller) for n in range(1, d + 1)} & set(range(1, min(smaller) + 1)))
        counts = {r: sum(-(-d // r) * (d + r) for d in smaller) for r in ranks}
        return sorted(ranks, key=lambda r: counts[r])

    def init(self, weight: Float[Tensor, "out in"], context: Context) -> State:
        small = max(min(shape) for shape in context.shapes)
        large = max(max(shape) for shape in context.shapes)
        d = min(weight.shape)
        n = -(-d // self.rank)
        if self.shared:
            a = context.share("a", lambda: self.basis(context, self.rank, small))
            b = context.share("b", lambda: self.basis(context, large, -(-small // self.rank) * self.rank))
        else:
            a = self.basis(context, self.rank, d)
            b = self.basis(context, max(weight.shape), n * self.rank)
        gamma = context.full(n, d, value=1 / max(n, d))
        return State({"lambda": context.zeros(n, self.rank), "gamma": gamma}, {"a": a, "b": b})

    def basis(self, context: Context, rows: int, columns: int) -> Float[Tensor, "rows columns"]:
        """Return random numbers with mean 0 and variance 1.

        Args:
            context: Source of the random numbers.
            rows: Number of rows.
            columns: Number of columns.
        """
        if not self.sparsity:
            return context.uniform(rows, columns, bound=3**0.5)
        u = context.uniform(rows, columns, bound=1.0)
        entries: Tensor = u.sign() * (u.abs() > 1 - 1 / self.sparsity) * self.sparsity**0.5
        return entries

    @classmethod
    def from_peft(cls, source: PeftSource) -> RandLoRA | None:
        settings = source.settings
        settings.only_at_start("init_weights", "projection_prng_key", "sparse", "very_sparse")
        settings.only_in_training("randlora_dropout")
        if not settings.flag("save_projection", True):
            raise CannotLoadError("save_projection=False: its random matrices are not in the file; save it with them")
        return cls(rank=settings.whole("r", 32), alpha=settings.number("randlora_alpha", 640))

    def peft_state(self, site: PeftStored) -> Mapping[str, Tensor]:
        a, b = (self._peft_basis(site, side) for side in "AB")
        n, (rows, columns) = len(site.start["gamma"]), site.start["b"].shape
        small = site.start["a"].shape[1]

        def own_order() -> Tensor:
            return padded(_reordered(b.flatten(1), (self.rank, n))[:rows], columns, 1)

        return {
            "lambda": site.take("randlora_lambda").T,
            "gamma": site.take("randlora_gamma"),
            "a": site.source.once("a", lambda: a[:, 0, :small]),
            "b": site.source.once(f"b of {n}", own_order),
        }

    def _peft_basis(self, site: PeftStored, side: str) -> Tensor:
        shared, name = site.take_shared(f"base_model.randlora_{side}"), f"randlora_{side}"
        # PEFT writes a copy at every layer, too.
        if name in site.source.tensors[site.path] and not torch.equal(site.take(name), shared):
            raise CannotLoadError(f"{name} at {site.path} is not the one that all layers share")
        return shared

    def peft_layout(self, sites: Sequence[PeftSite]) -> PeftLayout:
        if not self.shared:
            raise CannotExportError("PEFT has the same random matrices for all layers, here each has its own")

        def peft_b(site: PeftSite) -> Float[Tensor, "large columns"]:
            return _reordered(site.state["b"], (len(site.state["gamma"]), self.rank))

        whole = max((peft_b(site) for site in sites), key=lambda b: b.shape[1])
        for site in sites:
            own = peft_b(site)
            if not torch.equal(own, whole[:, : own.shape[1]]):
                raise CannotExportError(f"at {site.path} PEFT would use its random basis in another order")
        rows, columns = (max(site.base.shape[side] for site in sites) for side in (0, 1))
        small = min(rows, columns)
        config = {"peft_type": "RANDLORA", "r": self.rank, "randlora_alpha": self.alpha, "save_projection": True}
        shared = {
            "base_model.randlora_A": padded(sites[0].state["a"], small, 1)[:, None],
            "base_model.randlora_B": torch.unflatten(
                padded(whole, -(-small // self.rank) * self.rank, 1), 1, (-1, self.rank)
            ),
        }
        return per_site(
            config,
            sites,
            lambda site: {"randlora_lambda": site.state["lambda"].T, "randlora_gamma": site.state["gamma"]},
            shared=shared,
        )

    def factors(
        self, state: State, large: int
    ) -> tuple[Float[Tensor, "large bases"], Float[Tensor, " bases"], Float[Tensor, "bases d"]]:
        """Return all `B_j` side by side, all `lambda_j` times the scale, and all `A diag(gamma_j)` stacked as rows.

        Args:
            state: State of the site.
            large: Larger side of the weight.
        """
        n, d = state["gamma"].shape[-2:]
        gained = state["a"][:, :d] * state["gamma"][:, None]
        scaled = state["lambda"].flatten() * (self.alpha / self.rank)
        return state["b"][:large, : n * self.rank], scaled, gained.flatten(0, 1)

    def weight(self, state: State, weight: Float[Tensor, "out in"], strength: float = 1.0) -> Float[Tensor, "out in"]:
        rows, columns = weight.shape
        b, scaled, a = self.factors(state, max(rows, columns))
        a = a * (strength * scaled)[:, None]
        return weight + (b @ a if rows >= columns else a.mT @ b.mT)

    def forward(
        self, state: State, x: Float[Tensor, "*batch in"], linear: Linear, strength: float = 1.0
    ) -> Float[Tensor, "*batch out"]:
        rows, columns = linear.weight.shape
        bases = len(state["gamma"]) * self.rank
        if not self.on_input(x, linear.weight, each=bases * (rows + columns), once=bases * rows * columns):
            # The built weight is kept for the backward pass, since recomputing it is as costly as the other products.
            return affine(x, self.weight(state, linear.weight, strength), linear.bias)
        b, scaled, a = self.factors(state, max(rows, columns))
        first, second = (a, b) if rows >= columns else (b.mT, a.mT)
        return linear(x) + affine(affine(x, first) * (strength * scaled), second)


def _reordered(b: Float[Tensor, "large columns"], shape: tuple[int, int]) -> Float[Tensor, "large used"]:
    """Return the first columns of `b`, numbered as a matrix of a shape, in the order of the transposed matrix.

    PEFT runs through the columns of all `B_j` in another order than through the rows that they meet.
    """
    return torch.unflatten(b[:, : shape[0] * shape[1]], 1, shape).transpose(1, 2).flatten(1)


@dataclass(frozen=True)
class InRandomBasis(Invariant):
    """Each column of the change (each row if `out < in`) is a linear combination of the random basis's columns."""

    def residual(self, adapter: Adapter, state: State, before: Tensor, after: Tensor) -> float:
        assert isinstance(adapter, RandLoRA)
        change = (after - before).double()
        change = change if len(change) >= change.shape[1] else change.T
        b = state["b"][: len(change), : len(state["gamma"]) * adapter.rank].double()
        q = torch.linalg.qr(b).Q
        return relative(change - q @ (q.T @ change), before, after)
