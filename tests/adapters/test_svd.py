"""The methods of the singular basis, built densely from their formulas; and what their options promise."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.adapters.svd.pissa import as_lora
from tests.adapters.methods import context, moved

WEIGHT = torch.randn(12, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def trained(method, weight=WEIGHT, size=0.2):
    return moved(method.init(weight, context(weight)), size=size)


@pytest.mark.parametrize("strength", [1.0, -0.5])
def test_pissa_becomes_a_lora_of_twice_the_rank(strength):
    method = adapter("pissa", rank=3)
    state = trained(method)
    lora, as_state = as_lora(state)
    assert lora.rank == 6
    torch.testing.assert_close(lora.weight(as_state, WEIGHT, strength), method.weight(state, WEIGHT, strength))


def test_pissa_starts_from_a_randomized_decomposition():
    decaying = torch.linalg.qr(WEIGHT)[0] * 0.5 ** torch.arange(12) @ torch.linalg.qr(WEIGHT.T)[0].T
    exact, quick = (adapter("pissa", rank=2, iterations=i).init(decaying, context(decaying)) for i in (0, 4))
    torch.testing.assert_close(quick["b"] @ quick["a"], exact["b"] @ exact["a"], rtol=1e-6, atol=1e-9)


SQUARE = torch.randn(12, 12, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def skew(upper, size):
    q = torch.zeros(size, size, dtype=torch.float64)
    q[tuple(torch.triu_indices(size, size, 1))] = upper
    return q - q.T


def dense(method, state):
    """`M` of SVFT, entry by entry."""
    n = len(state["s"])
    m = torch.zeros(n, n, dtype=torch.float64)
    for value, place in zip(state["m"], method.places(state), strict=True):
        m[place // n, place % n] = value
    return m


@pytest.mark.parametrize("pattern", ["plain", "banded", "random", "top_k"])
@pytest.mark.parametrize("width", [0, 2, 10])
def test_svft_is_a_sparse_matrix_between_singular_vectors(pattern, width):
    method = adapter("svft", pattern=pattern, off_diagonals=width)
    weight = SQUARE if pattern == "top_k" else WEIGHT
    state = trained(method, weight)
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    signs = (u * state["u"]).sum(0).sign()
    m = dense(method, state)
    torch.testing.assert_close(method.weight(state, weight), u * signs @ (torch.diag(s) + m) @ (signs[:, None] * vh))
    d = 0 if pattern == "plain" else width
    assert len(state["m"]) == len(set(method.places(state).tolist())) == 12 * (2 * d + 1) - d * (d + 1)
    rows, columns = m.nonzero(as_tuple=True)
    if pattern in ("plain", "banded"):
        assert ((rows - columns).abs() <= d).all()
    if pattern == "top_k":
        alignment = (u.T @ vh.T).abs()
        assert alignment[rows, columns].min() >= alignment[m == 0].max() if (m == 0).any() else True


def test_plain_svft_keeps_the_singular_vectors():
    method = adapter("svft", pattern="plain")
    state = trained(method)
    between = state["u"].T @ method.weight(state, WEIGHT) @ state["vt"].T
    torch.testing.assert_close(between, torch.diag(between.diagonal()))


@pytest.mark.parametrize("rotation", ["approximate", "strict", "free"])
@pytest.mark.parametrize("strength", [1.0, 0.4, -1.0])
def test_ssvd_turns_the_right_singular_vectors(rotation, strength):
    method = adapter("ssvd", rank=5, rotation=rotation)
    state = trained(method)
    u, s, vh = torch.linalg.svd(WEIGHT, full_matrices=False)
    signs = (u[:, :5] * state["u"]).sum(0).sign()
    u[:, :5] *= signs
    vh[:5] *= signs[:, None]
    eye = torch.eye(5, dtype=torch.float64)
    if rotation == "free":
        turn = eye + strength * (state["turn"] - eye)
    else:
        k = strength * skew(state["skew"], 5)
        turn = eye - 2 * k if rotation == "approximate" else (eye - k) @ torch.linalg.inv(eye + k)
    g = torch.block_diag(turn, torch.eye(7, dtype=torch.float64))
    shifted = s.clone()
    shifted[:5] += strength * state["shift"]
    torch.testing.assert_close(method.weight(state, WEIGHT, strength), u * shifted @ g @ vh)


def test_psoft_multiplies_principal_factors():
    """Equation 8, in the paper's orientation: columns are neurons."""
    method = adapter("psoft", rank=5)
    state = trained(method)
    pre = WEIGHT.T
    a, b = state["vt"].T, torch.diag(state["s"]) @ state["u"].T
    q = skew(state["skew"], 5)
    eye = torch.eye(5, dtype=torch.float64)
    r = (eye - q) @ torch.linalg.inv(eye + q)
    tuned = a @ torch.diag(state["alpha"]) @ r @ torch.diag(state["beta"]) @ b + (pre - a @ b)
    torch.testing.assert_close(method.weight(state, WEIGHT), tuned.T)


@pytest.mark.parametrize("strength", [1.0, -1.0, 0.5])
def test_antipasto_turns_both_ways(strength):
    method = adapter("antipasto", rank=4)
    state = trained(method, size=2.0)
    limit = 2 * math.tan(method.max_angle / 2)
    bounded = limit * torch.tanh(skew(state["skew"], 4) / limit)
    eye = torch.eye(4, dtype=torch.float64)
    r = (eye - strength / 2 * bounded) @ torch.linalg.inv(eye + strength / 2 * bounded)
    u, s, vt = state["u"], state["s"], state["vt"]
    rest = WEIGHT - u * s @ vt
    expected = u @ (torch.diag(s) + strength * torch.diag(state["shift"])) @ r @ vt + rest
    torch.testing.assert_close(method.weight(state, WEIGHT, strength), expected)


def test_antipasto_turns_back_by_what_it_turned():
    method = adapter("antipasto", rank=4)
    state = trained(method)
    state = dataclasses.replace(state, trainable={**state.trainable, "shift": torch.zeros(4, dtype=torch.float64)})
    s = torch.diag(state["s"])
    there, back = (torch.linalg.inv(s) @ (method.core(state, sign) + s) for sign in (1.0, -1.0))
    torch.testing.assert_close(there @ back, torch.eye(4, dtype=torch.float64))


def test_antipasto_in_two_dimensions_turns_by_no_more_than_its_angle():
    method = adapter("antipasto", rank=2, max_angle=0.7)
    state = method.init(WEIGHT, context(WEIGHT))
    state = dataclasses.replace(state, trainable={"skew": torch.tensor([1e6]), "shift": torch.zeros(2)})
    s = torch.diag(state["s"]).double()
    turn = torch.linalg.inv(s) @ (method.core(state, 1.0).double() + s)
    assert abs(math.acos(turn[0, 0].item()) - 0.7) < 1e-6


def test_adalora_budget_falls_as_a_cube():
    method = adapter("adalora", keep=0.5, total_steps=100, warmup_steps=10, final_steps=30)
    assert [method.budget(step, 80) for step in (0, 10, 40, 70, 99)] == [80, 80, 45, 40, 40]


@pytest.mark.parametrize("squared", [True, False])
def test_adalora_penalty_is_the_distance_from_orthonormal_vectors(squared):
    method = adapter("adalora", rank=3, penalty=0.2, squared=squared)
    state = trained(method)
    eye = torch.eye(3, dtype=torch.float64)
    p, q = state["p"], state["q"]
    norms = torch.stack([(p.T @ p - eye).norm(), (q @ q.T - eye).norm()])
    torch.testing.assert_close(method.regularizer(state), 0.2 * (norms.square().sum() if squared else norms.mean()))


def test_adalora_gives_rank_to_the_site_that_needs_it():
    """Two layers, of which one alone has to change, by a matrix of rank 4."""
    torch.manual_seed(0)
    method = adapter(
        "adalora", rank=4, keep=0.5, total_steps=60, warmup_steps=10, final_steps=10, interval=1, penalty=0.0
    )
    states = [method.init(SQUARE.float(), context(SQUARE.float(), seed)) for seed in (0, 1)]
    leaves = [t.requires_grad_() for state in states for t in state.trainable.values()]
    optimizer = torch.optim.Adam(leaves, lr=0.05)
    target = torch.randn(12, 4) @ torch.randn(4, 12) / 4
    for step in range(60):
        optimizer.zero_grad()
        first, second = (method.weight(state, SQUARE.float()) - SQUARE.float() for state in states)
        ((first - target).square().sum() + second.square().sum()).backward()
        optimizer.step()
        with torch.no_grad():
            method.after_step(states, step)
    assert [int(state["kept"].sum()) for state in states] == [4, 0]
    assert (states[1]["values"] == 0).all()


@pytest.mark.parametrize(
    ("name", "settings", "shapes", "message"),
    [
        ("svft", {"pattern": "diagonal"}, [(16, 16)], "give one of plain, banded"),
        ("svft", {"pattern": "top_k"}, [(16, 12)], "give square layers"),
        ("svft", {"off_diagonals": 16}, [(16, 16)], "give 0 to 15"),
        ("ssvd", {"rotation": "exact"}, [(64, 64)], "give one of approximate"),
        ("ssvd", {"rank": 17}, [(16, 64)], "give 1 to 16"),
        ("psoft", {"neumann_terms": -1}, [(64, 64)], "give 0 for the exact"),
        ("adalora", {"keep": 0.0}, [(64, 64)], "above 0"),
        ("adalora", {"final_steps": 950}, [(64, 64)], "more total_steps"),
        ("antipasto", {"max_angle": 4.0}, [(64, 64)], "in radians"),
    ],
)
def test_what_does_not_fit_is_named(name, settings, shapes, message):
    assert message in adapter(name, **settings).validate(shapes)
