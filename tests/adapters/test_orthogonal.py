"""The orthogonal methods that no other library has, built densely from their formulas; and what their options promise."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.func import jacrev

from adapterlab.adapters import adapter
from adapterlab.adapters.invariants import PreservesGram
from adapterlab.adapters.state import State
from adapterlab.surgery import attach
from tests.adapters.methods import context, moved, small
from tests.conftest import tiny_llama
from tests.surgery.test_attach import train

WEIGHT = torch.randn(12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def trained(method, weight=WEIGHT, size=0.2):
    return moved(method.init(weight, context(weight)), size=size)


def block_diagonal(blocks):
    return torch.block_diag(*blocks)


def reflection(u, factor=-2.0):
    return torch.eye(len(u), dtype=u.dtype) + factor * torch.outer(u, u) / (u @ u)


@pytest.mark.parametrize("blocks", [1, 4])
def test_ether_is_a_block_diagonal_householder_matrix(blocks):
    method = adapter("ether", block_count=blocks)
    state = trained(method)
    h = block_diagonal([reflection(u) for u in state["normals"]])
    # The paper's columns are our rows: (H W^T)^T.
    torch.testing.assert_close(method.weight(state, WEIGHT), (h @ WEIGHT.T).T)
    torch.testing.assert_close((h - torch.eye(16)).norm(), torch.tensor(2 * blocks**0.5, dtype=torch.float64))


@pytest.mark.parametrize("blocks", [1, 2])
def test_ether_plus_is_two_hyperplanes_on_each_side(blocks):
    method = adapter("ether_plus", block_count=blocks)
    state = trained(method)
    h_in, h_out = (
        block_diagonal(
            [
                reflection(v, 1.0) + reflection(u, -1.0) - torch.eye(len(u), dtype=u.dtype)
                for u, v in zip(state[f"{side}_u"], state[f"{side}_v"], strict=True)
            ]
        )
        for side in ("in", "out")
    )
    torch.testing.assert_close(method.weight(state, WEIGHT), (h_in @ WEIGHT.T @ h_out).T)


def test_hra_is_a_chain_of_reflections():
    method = adapter("hra", rank=6)
    state = trained(method)
    chain = torch.eye(16, dtype=torch.float64)
    for u in state["normals"]:
        chain = chain @ reflection(u)
    torch.testing.assert_close(method.weight(state, WEIGHT), WEIGHT @ chain)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("strength", [-1.0, 0.3, 0.999, 1.5])
def test_hra_stays_orthogonal_along_its_path(strict, strength):
    method = adapter("hra", rank=4, strict=strict)
    state = trained(method)
    adapted = method.weight(state, WEIGHT, strength)
    assert PreservesGram("rows").residual(method, state, WEIGHT, adapted) < 1e-12
    near, end = (method.weight(state, WEIGHT, s) for s in (1 - 1e-9, 1.0))
    torch.testing.assert_close(near, end, rtol=1e-6, atol=1e-6)


def test_hra_trains_at_any_strength_from_its_start():
    method = adapter("hra", rank=4)
    start = method.init(WEIGHT, context(WEIGHT))
    normals = start["normals"].clone().requires_grad_()
    method.weight(State({"normals": normals}), WEIGHT, 0.5).square().sum().backward()
    assert torch.isfinite(normals.grad).all()


def test_hra_penalty_is_the_distance_of_the_normals_from_orthonormal():
    method = adapter("hra", rank=4, penalty=0.5)
    state = trained(method)
    u = state["normals"] / state["normals"].norm(dim=1, keepdim=True)
    torch.testing.assert_close(method.regularizer(state), 0.5 * (torch.eye(4, dtype=u.dtype) - u @ u.T).norm() ** 2)
    assert adapter("hra", rank=4, penalty=0.0).regularizer(state) is None


def test_coft_comes_back_into_its_ball_after_each_step():
    method = adapter("oft", block_size=4, coft=True, eps=0.05 / 4**2)
    state = trained(method)
    untouched = dataclasses.replace(method, coft=False)
    untouched.after_step([state], 0)
    far = untouched.weight(state, WEIGHT) - WEIGHT
    method.after_step([state], 0)
    near = method.weight(state, WEIGHT) - WEIGHT
    # |R - I| is at most 2 |Q|, and so at most twice the radius.
    assert near.norm() <= 2 * 0.05 * torch.linalg.matrix_norm(WEIGHT, 2) < far.norm()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("oft", {}),
        ("oftv2", {}),
        ("boft", {}),
        ("hra", {}),
        ("hra", {"strict": True}),
        ("goft", {}),
        ("ether", {}),
        ("road", {}),
        ("psoft", {"relaxed": False}),
        ("ssvd", {"rotation": "strict"}),
        ("antipasto", {}),
    ],
)
def test_a_weight_rounded_to_bfloat16_keeps_what_the_method_preserves_within_a_bound_of_its_own(name, settings, tokens):
    """Trained under a bfloat16 base, merged and so rounded: lengths, angles, planes and singular bases are off by less."""
    model = tiny_llama().bfloat16()
    method = dataclasses.replace(small(name), **settings)
    held = [invariant for invariant in method.invariants if not invariant.only_at_start]
    assert held
    handle = attach(model, method)
    train(model, handle, tokens, steps=5)
    before = {path: model.get_submodule(path).weight.detach().float() for path in handle.sites}
    handle.merge()
    for path, site in handle.sites.items():
        merged = model.get_submodule(path).weight.detach().float()
        assert not torch.equal(merged, before[path])
        for invariant in held:
            residual = invariant.residual(method, site.state, before[path], merged)
            assert residual <= invariant.bound(torch.bfloat16), f"{path}: {invariant}: {residual}"


@pytest.mark.parametrize("name", ["oft", "oftv2", "boft", "hra", "goft", "ether", "road"])
def test_the_bound_for_bfloat16_is_about_rounding_and_not_a_free_pass(name):
    """A weight that is off by a tenth is found out."""
    method = small(name)
    weight = WEIGHT.float()
    state = trained(method, weight)
    broken = method.weight(state, weight) + 0.1 * weight.flip(0)
    residuals = [(i.residual(method, state, weight, broken), i) for i in method.invariants if not i.only_at_start]
    assert any(residual > held.bound(torch.bfloat16) for residual, held in residuals)


@pytest.mark.parametrize("terms", [1, 2, 3, 5])
def test_oftv2_cuts_the_neumann_series(terms):
    method = adapter("oftv2", block_size=16, neumann_terms=terms)
    state = trained(method)
    q = torch.zeros(16, 16, dtype=torch.float64)
    q[tuple(torch.triu_indices(16, 16, 1))] = state["skew"][0]
    q = q - q.T
    series = sum(torch.linalg.matrix_power(q, i) for i in range(terms))
    r = (torch.eye(16) + q) @ series
    torch.testing.assert_close(method.weight(state, WEIGHT), (r @ WEIGHT.T).T)


@pytest.mark.parametrize("terms", [4, 5])
def test_oftv2_states_how_far_from_a_rotation_it_is(terms):
    method = adapter("oftv2", block_size=4, neumann_terms=terms)
    state = trained(method, size=0.05)
    rotation = method.weight(state, torch.eye(16, dtype=torch.float64)).T
    error = torch.linalg.matrix_norm(rotation.T @ rotation - torch.eye(16), 2)
    stated = method.orthogonality_error(state, 16)
    assert 0.5 * stated < error <= stated * (1 + 1e-9)


def test_road_is_a_matrix_of_two_by_two_blocks():
    method = adapter("road", variant=4)
    state = trained(method)
    (t11, t12, t21, t22), (a11, a12, a21, a22) = state["angles"], state["scales"]
    blocks = [
        torch.stack([torch.stack([a, -b]), torch.stack([c, d])])
        for a, b, c, d in zip(a11 * t11.cos(), a12 * t12.sin(), a21 * t21.sin(), a22 * t22.cos(), strict=True)
    ]
    torch.testing.assert_close(method.weight(state, WEIGHT), block_diagonal(blocks) @ WEIGHT)


def givens(width, i, j, block):
    g = torch.eye(width, dtype=torch.float64)
    for a, row in enumerate((i, j)):
        for b, column in enumerate((i, j)):
            g[row, column] = block[a, b]
    return g


@pytest.mark.parametrize("width", [2, 8, 11, 24, 35, 72, 96])
@pytest.mark.parametrize("soft", [False, True])
def test_goft_is_a_product_of_givens_rotations(width, soft):
    """Equation 3 round by round; where a round's number is odd, the last waits for the next."""
    method = adapter("goft", soft=soft)
    weight = torch.randn(5, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = trained(method, weight)
    if soft:
        blocks = list(state["blocks"])
    else:
        blocks = [
            torch.stack([torch.stack([t.cos(), -t.sin()]), torch.stack([t.sin(), t.cos()])]) for t in state["angles"]
        ]
    r = torch.eye(width, dtype=torch.float64)
    at, leaders = 0, list(range(width))
    while len(leaders) > 1:
        for i, j in zip(leaders[0::2], leaders[1::2], strict=False):
            r = r @ givens(width, i, j, blocks[at])
            at += 1
        leaders = leaders[0::2]
    assert at == len(blocks) == width - 1
    torch.testing.assert_close(method.weight(state, weight), (r @ weight.T).T)


def test_goft_reaches_every_direction():
    """Theorem 4.1: the rotations that the angles reach move a vector in every direction of its sphere."""
    method = adapter("goft")
    weight = torch.randn(1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    angles = trained(method, weight)["angles"]
    moves = jacrev(lambda a: method.weight(State({"angles": a}), weight)[0])(angles)
    assert torch.linalg.matrix_rank(moves) == 7


def test_soft_goft_penalizes_columns_that_are_not_orthogonal():
    method = adapter("goft", soft=True, penalty=0.1)
    state = trained(method)
    expected = sum((block[:, 0] @ block[:, 1]) ** 2 for block in state["blocks"])
    torch.testing.assert_close(method.regularizer(state), 0.1 * expected)
    assert method.regularizer(method.init(WEIGHT, context(WEIGHT))) == 0


@pytest.mark.parametrize(
    ("width", "size", "factors"), [(16, 4, 1), (16, 4, 3), (48, 6, 4), (32, 2, 5), (256, 2, 8), (160, 80, 2)]
)
def test_boft_is_a_product_of_block_butterflies(width, size, factors):
    """Equation 2: a factor of span k couples, in each run of k halves of a block, the first half with the second."""
    method = adapter("boft", block_size=size, factors=factors)
    weight = torch.randn(5, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    state = trained(method, weight)
    half = size // 2
    r = torch.eye(width, dtype=torch.float64)
    for factor in range(factors):
        rotation = torch.zeros(width, width, dtype=torch.float64)
        blocks = 0
        for start in range(0, width, half * 2 ** (factor + 1)):
            for offset in range(2**factor):
                at = [start + (a * 2**factor + offset) * half + w for a in (0, 1) for w in range(half)]
                q = torch.zeros(size, size, dtype=torch.float64)
                q[tuple(torch.triu_indices(size, size, 1))] = state["skew"][factor, blocks]
                q = q - q.T
                eye = torch.eye(size, dtype=torch.float64)
                rotation[torch.tensor(at)[:, None], torch.tensor(at)] = (eye + q) @ torch.linalg.inv(eye - q)
                blocks += 1
        r = rotation @ r
    torch.testing.assert_close(method.weight(state, weight), (r @ weight.T).T)


def test_boft_of_full_depth_is_dense():
    method = adapter("boft", block_size=4, factors=3)
    rotation = method.weight(trained(method), torch.eye(16, dtype=torch.float64)[:16])
    assert (rotation != 0).all()


@pytest.mark.parametrize(
    ("name", "settings", "shapes", "message"),
    [
        ("hra", {"rank": 3}, [(16, 16)], "give an even rank"),
        ("hra", {"rank": 18}, [(16, 32)], "give 1 to 16"),
        ("ether", {"block_count": 3}, [(16, 16)], "does not divide"),
        ("ether_plus", {"block_count": 3}, [(16, 12)], "does not divide"),
        ("oft", {"block_count": 3}, [(16, 12), (16, 16)], "give one of 1, 2, 4"),
        ("oftv2", {"block_size": 4, "neumann_terms": 0}, [(16, 16)], "give 1 or more"),
        ("road", {"variant": 3}, [(16, 16)], "give 1, 2 or 4"),
        ("road", {"group_size": 64}, [(16, 16)], "give 2"),
        ("boft", {"block_size": 4, "factors": 4}, [(16, 16)], "or fewer factors"),
        ("boft", {"block_size": 3}, [(16, 16)], "block_size 3"),
    ],
)
def test_what_does_not_fit_is_named(name, settings, shapes, message):
    assert message in adapter(name, **settings).validate(shapes)
