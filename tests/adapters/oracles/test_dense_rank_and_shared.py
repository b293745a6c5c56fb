"""Formulas built densely and naively, for the variants that PEFT lacks or does otherwise than the papers."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import linear as affine

from adapterlab.adapters import adapter
from adapterlab.adapters.state import State
from tests.adapters.methods import context, moved
from tests.adapters.oracles.peft_layers import Plain

WEIGHT = torch.randn(12, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def started(name, **settings):
    method = adapter(name, **settings)
    start = method.init(WEIGHT, context(WEIGHT))
    return method, start, moved(start, size=0.3)


@pytest.mark.parametrize("frobenius", [False, True])
def test_delora_adds_normalized_terms_less_those_of_the_start(frobenius):
    method, start, state = started("delora", rank=3, boundary=5.0, frobenius=frobenius)

    def update(s):
        total = torch.zeros_like(WEIGHT)
        for i in range(3):
            b, a = s["b"][:, i], s["a"][i]
            total += torch.outer(b, a) / (b.norm() * a.norm())
        norm = WEIGHT.norm() if frobenius else WEIGHT.norm(dim=0)
        return s["boundary"] / 3 * total * norm

    torch.testing.assert_close(method.weight(state, WEIGHT), WEIGHT + update(state) - update(start))
    assert (method.weight(state, WEIGHT) - WEIGHT).norm() <= (state["boundary"] + 5) * WEIGHT.norm()


def test_c3a_is_the_papers_matrix_of_circulant_blocks():
    method, _, state = started("c3a", block_size=4)
    kernel = state["kernel"]
    rows = [
        torch.cat([torch.stack([kernel[i, j].roll(k) for k in range(4)]) for j in range(2)], dim=1) for i in range(3)
    ]
    torch.testing.assert_close(method.weight(state, WEIGHT), WEIGHT + torch.cat(rows))


def test_fourierft_is_a_sum_of_waves():
    method, _, state = started("fourierft", n=5, alpha=30.0, width=0)
    p, q = torch.meshgrid(torch.arange(12.0), torch.arange(8.0), indexing="ij")
    total = torch.zeros_like(WEIGHT)
    for entry, c in zip(state["entries"].tolist(), state["coefficients"], strict=True):
        j, k = divmod(entry, 8)
        total += c * torch.cos(2 * torch.pi * (p.double() * j / 12 + q.double() * k / 8)) / (12 * 8)
    torch.testing.assert_close(method.weight(state, WEIGHT), WEIGHT + 30 * total)


def test_miss_in_its_first_form_repeats_rows():
    method, _, state = started("miss", rank=3, efficient=False)
    shards = [row.expand(4, 8) for row in state["d"]]
    torch.testing.assert_close(method.weight(state, WEIGHT), WEIGHT + torch.cat(shards))


def test_bone_maps_block_by_block():
    method, _, state = started("bone", block_size=4)
    expected = WEIGHT.clone()
    for i in range(3):
        for j in range(2):
            block = WEIGHT[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            expected[4 * i : 4 * i + 4, 4 * j : 4 * j + 4] += block @ state["b"][i] + state["b"][i]
    torch.testing.assert_close(method.weight(state, WEIGHT), expected)


def test_randlora_sums_its_bases():
    method, _, state = started("randlora", rank=3, alpha=6.0)
    total = torch.zeros_like(WEIGHT)
    for j in range(3):
        b = state["b"][:12, 3 * j : 3 * j + 3]
        total += b @ torch.diag(state["lambda"][j]) @ state["a"][:, :8] @ torch.diag(state["gamma"][j])
    torch.testing.assert_close(method.weight(state, WEIGHT), WEIGHT + 2 * total)


def test_sparse_bases_have_the_papers_entries():
    weight = torch.empty(600, 400)
    state = adapter("randlora", rank=100, sparsity=6.0).init(weight, context(weight))
    for basis in (state["a"], state["b"]):
        torch.testing.assert_close((basis != 0).double().mean(), torch.tensor(1 / 6).double(), rtol=0.05, atol=0)
        torch.testing.assert_close(basis.double().var(), torch.ones(()).double(), rtol=0.05, atol=0)
        assert len(basis.unique()) == 3


def test_lokr_is_a_kronecker_product():
    method, _, state = started("lokr", rank=1, alpha=3.0, factor=2)
    expected = WEIGHT + 3 * torch.kron(state["c"], state["d_b"] @ state["d_a"])
    torch.testing.assert_close(method.weight(state, WEIGHT), expected)


VARIANTS = [
    ("lora", {"rank": 3, "rslora": True}),
    ("lora", {"rank": 3, "train_a": False}),
    ("lora", {"rank": 4, "start": "orthogonal"}),
    ("lora", {"rank": 3, "start": "olora", "rslora": True}),
    ("lora", {"rank": 3, "start": "milora"}),
    ("lora", {"rank": 3, "start": "mica"}),
    ("delora", {"rank": 3, "frobenius": True}),
    ("delora", {"rank": 3, "zero_start": True}),
    ("c3a", {"block_size": 2, "scaled": True}),
    ("fourierft", {"n": 7, "width": 16}),
    ("fourierft", {"n": 7, "zero_start": False}),
    ("loha", {"rank": 8}),  # built into the weight rather than applied to the input
    ("lokr", {"full": True}),
    ("lokr", {"rank": 1, "factor": 2, "both": True}),
    ("lokr", {"rank": 1, "factor": 0}),
    ("randlora", {"rank": 3, "sparsity": 3.0}),
    ("randlora", {"rank": 8}),
    ("miss", {"rank": 5}),
    ("miss", {"rank": 5, "efficient": False}),
    ("vblora", {"rank": 2, "vectors": 6, "length": 4, "top": 6}),
    ("shira", {"rank": 2, "mask": "struct"}),
    ("shira", {"rank": 2, "mask": "magnitude"}),
]


@pytest.mark.parametrize(("name", "settings"), VARIANTS)
@pytest.mark.parametrize("inputs", [2, 200])
def test_every_variant_is_fast_and_right(name, settings, inputs):
    """The forward pass and its gradients are those of the adapted weight, on either side; what is claimed holds."""
    method, start, state = started(name, **settings)
    x = torch.randn(inputs, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    toward = torch.randn(inputs, 12, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    results = []
    for way in (
        lambda s, x: affine(x, method.weight(s, WEIGHT, 0.5)),
        lambda s, x: method.forward(s, x, Plain(WEIGHT, None), 0.5),
    ):
        leaves = {key: t.clone().requires_grad_() for key, t in state.trainable.items()}
        x_leaf = x.clone().requires_grad_()
        y = way(State(leaves, state.frozen), x_leaf)
        (y * toward).sum().backward()
        results.append([y, x_leaf.grad, *(t.grad for t in leaves.values())])
    torch.testing.assert_close(*results, rtol=1e-8, atol=1e-9)
    for invariant in method.invariants:
        at = start if invariant.only_at_start else state
        assert invariant.residual(method, at, WEIGHT, method.weight(at, WEIGHT)) <= invariant.bound(torch.float64)
