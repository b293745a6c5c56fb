"""Projections compared with numpy, scipy and brute force."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import torch

from adapterlab.geometry.change import InMemory, WeightChange
from adapterlab.geometry.hypotheses import hypothesis
from adapterlab.geometry.hypotheses.base import Setting
from adapterlab.geometry.hypotheses.rotation import nearest_rotations
from adapterlab.geometry.hypotheses.shared_random import random_factors
from adapterlab.geometry.measure import project
from tests.geometry.planted import weights

PATIENT = Setting(starts=6, trial=10, tolerance=1e-9, sweeps=1000)


def change(rows: int, columns: int, size: float = 0.3, seed: int = 0) -> WeightChange:
    base = weights((rows, columns), seed)
    return WeightChange("h.0.q_proj", base, base + size * weights((rows, columns), seed + 50))


def residual(name: str, size: int, *changes: WeightChange) -> float:
    layers = InMemory({f"h.{n}.q_proj": (each.base, each.tuned) for n, each in enumerate(changes)})
    return project(layers, hypothesis(name), size, PATIENT)[0].residual


def squared(array: np.ndarray) -> float:
    return float(np.square(array).sum())


def left_by_atoms(delta: np.ndarray, atoms: np.ndarray) -> float:
    """Share that least squares leaves of a matrix, by matrices to combine."""
    columns = atoms.reshape(len(atoms), -1).T
    fit = columns @ np.linalg.lstsq(columns, delta.ravel(), rcond=None)[0]
    return squared(delta.ravel() - fit) / squared(delta)


def brute_force(loss, count: int, starts: int = 4) -> float:
    """The least value that quasi-Newton descents from random points find."""
    draw = np.random.default_rng(0)
    return min(scipy.optimize.minimize(loss, draw.standard_normal(count)).fun for _ in range(starts))


def test_low_rank_leaves_the_smaller_singular_values():
    each = change(6, 9)
    s = np.linalg.svd(each.delta.numpy(), compute_uv=False)
    assert residual("low_rank", 2, each) == pytest.approx(squared(s[2:]) / squared(s))


def test_a_rotation_is_that_of_scipy_in_each_block():
    each = change(20, 8)
    nearest = hypothesis("rotation").project([each], 4, PATIENT)[0].weight.numpy()
    for block in (slice(0, 4), slice(4, 8)):
        turn, _ = scipy.linalg.orthogonal_procrustes(each.base[:, block].numpy(), each.tuned[:, block].numpy())
        assert np.linalg.det(turn) > 0
        np.testing.assert_allclose(nearest[:, block], each.base[:, block].numpy() @ turn, atol=1e-10)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_rotation_never_reflects(size):
    cross = weights((40 * size, size)).unflatten(0, (40, size))
    found = nearest_rotations(cross)
    best, scale = torch.linalg.svd(cross).S.sum(-1), torch.linalg.svd(cross).S[:, -1]
    reached = (found * cross).sum((-2, -1))
    torch.testing.assert_close(torch.linalg.det(found), torch.ones(40, dtype=torch.float64))
    # Kabsch: the smallest singular value counts negatively where the best orthogonal matrix is a reflection.
    torch.testing.assert_close(reached, best - torch.where(torch.linalg.det(cross) < 0, 2 * scale, 0.0))


def plane(width: int, first: int, second: int, angle: float) -> np.ndarray:
    turn = np.eye(width)
    turn[[first, second], [first, second]] = np.cos(angle)
    turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
    return turn


@pytest.mark.parametrize(("name", "size", "rounds"), [
    ("givens", 1, [[(0, 1), (2, 3)], [(0, 2)]]),
    ("butterfly", 2, [[(0, 1), (2, 3)], [(0, 2), (1, 3)]]),
])  # fmt: skip
def test_chains_of_plane_rotations_are_as_good_as_brute_force(name, size, rounds):
    each = change(5, 4)
    base, tuned = each.base.numpy(), each.tuned.numpy()
    planes = [pair for pairs in rounds for pair in pairs]

    def loss(angles):
        turn = np.eye(4)
        for (first, second), angle in zip(planes, angles, strict=True):
            # BOFT's first factor is nearest to the input, GOFT's first round is leftmost.
            factor = plane(4, first, second, angle)
            turn = factor @ turn if name == "butterfly" else turn @ factor
        return squared(tuned - base @ turn.T) / each.norm**2

    assert residual(name, size, each) == pytest.approx(brute_force(loss, len(planes)), abs=1e-7)


@pytest.mark.parametrize("count", [2, 4])
def test_reflections_are_as_good_as_brute_force(count):
    each = change(5, 4, size=0.6)
    base, tuned = each.base.numpy(), each.tuned.numpy()

    def loss(normals):
        turned = base
        for normal in normals.reshape(count, 4):
            turned = turned - 2 * np.outer(turned @ normal, normal) / (normal @ normal)
        return squared(tuned - turned) / each.norm**2

    assert residual("reflections", count, each) == pytest.approx(brute_force(loss, count * 4), abs=1e-6)


def test_gains_on_both_sides_are_as_good_as_brute_force():
    each = change(4, 5)
    base, tuned = each.base.numpy(), each.tuned.numpy()

    def loss(gains):
        return squared(tuned - gains[:4, None] * base * gains[4:]) / each.norm**2

    assert residual("gain", 2, each) == pytest.approx(brute_force(loss, 9), abs=1e-7)


def test_gains_on_rows_are_a_least_squares_fit():
    each = change(4, 5)
    atoms = np.stack([np.diag(row) @ each.base.numpy() for row in np.eye(4)])
    assert residual("gain", 1, each) == pytest.approx(left_by_atoms(each.delta.numpy(), atoms))


def test_magnitude_and_direction_are_as_good_as_brute_force():
    each = change(4, 3)
    base, tuned = each.base.numpy(), each.tuned.numpy()

    def loss(x):
        return squared(tuned - x[:4, None] * base - np.outer(x[4:8], x[8:])) / each.norm**2

    assert residual("magnitude_direction", 1, each) == pytest.approx(brute_force(loss, 11), abs=1e-6)


def test_bands_and_cores_of_the_singular_basis_are_least_squares_fits():
    each = change(6, 4)
    u, _, vt = np.linalg.svd(each.base.numpy(), full_matrices=False)
    pairs = {(i, j): np.outer(u[:, i], vt[j]) for i in range(4) for j in range(4)}
    band = np.stack([atom for (i, j), atom in pairs.items() if abs(i - j) <= 1])
    core = np.stack([atom for (i, j), atom in pairs.items() if max(i, j) < 3])
    assert residual("svd_banded", 1, each) == pytest.approx(left_by_atoms(each.delta.numpy(), band))
    assert residual("svd_top_k", 3, each) == pytest.approx(left_by_atoms(each.delta.numpy(), core))


def test_a_rotation_of_the_singular_basis_is_as_good_as_brute_force():
    each = change(6, 4)
    u, s, vt = np.linalg.svd(each.base.numpy(), full_matrices=False)

    def loss(x):
        core = x[:2, None] * plane(2, 0, 1, x[2]) - np.diag(s[:2])
        return squared(each.delta.numpy() - u[:, :2] @ core @ vt[:2]) / each.norm**2

    assert residual("svd_rotation", 2, each) == pytest.approx(brute_force(loss, 3), abs=1e-7)


@pytest.mark.parametrize("shape", [(6, 8), (5, 8), (6, 7), (5, 7)], ids=str)
def test_waves_are_those_of_largest_energy_in_numpys_spectrum(shape):
    rows, columns = shape
    delta = change(*shape).delta.numpy()
    energies = {}
    for p, q in np.ndindex(shape):
        mirrored = (-p % rows, -q % columns)
        own = mirrored == (p, q)
        energies[min((p, q), mirrored)] = np.fft.fft2(delta)[p, q].real ** 2 / delta.size * (1 if own else 2)
    for size in (1, 5, rows * columns):
        kept = sorted(energies.values())[-size:]
        assert residual("fourier", size, change(*shape)) == pytest.approx(1 - sum(kept) / squared(delta))


def test_a_circulant_block_is_the_diagonal_of_its_spectrum():
    delta = change(12, 8).delta.numpy()
    kept = 0.0
    for block in (delta[i : i + 4, j : j + 4] for i in range(0, 12, 4) for j in range(0, 8, 4)):
        # A matrix is circulant if the discrete Fourier transform makes it diagonal.
        kept += squared(np.abs(np.diag(np.fft.ifft(np.fft.fft(block, axis=0), axis=1))))
    assert residual("circulant", 4, change(12, 8)) == pytest.approx(1 - kept / squared(delta))


@pytest.mark.parametrize(("shape", "size"), [((12, 16), 3), ((144, 100), 10)], ids=str)
def test_a_kronecker_product_leaves_the_smaller_singular_values_of_the_rearranged_change(shape, size):
    from adapterlab.adapters.rank.lokr import LoKr

    (r1, c1), (r2, c2) = LoKr(factor=size).split(*shape)
    delta = change(*shape).delta.numpy()
    blocks = [delta[i * r2 : (i + 1) * r2, j * c2 : (j + 1) * c2].ravel() for i in range(r1) for j in range(c1)]
    s = np.linalg.svd(np.stack(blocks), compute_uv=False)
    assert residual("kronecker", size, change(*shape)) == pytest.approx(1 - s[0] ** 2 / squared(s))


def test_a_hadamard_product_of_rank_one_is_the_leading_singular_pair():
    each = change(4, 6)
    wanted = each.delta.numpy()

    one = np.linalg.svd(wanted, compute_uv=False)
    assert residual("hadamard", 1, each) == pytest.approx(squared(one[1:]) / squared(one))


def test_a_hadamard_product_is_as_good_as_brute_force():
    each = change(3, 3)
    wanted = each.delta.numpy()

    def loss(x):
        b1, a1, b2, a2 = x.reshape(4, 2, 3)
        return squared(wanted - (b1.T @ a1) * (b2.T @ a2)) / squared(wanted)

    assert residual("hadamard", 2, each) == pytest.approx(brute_force(loss, 24, starts=2), abs=1e-4)


def test_sparse_changes_keep_the_largest_entries():
    each = change(6, 7)
    entries = np.sort(np.square(each.delta.numpy()).ravel())
    assert residual("sparse", 1, each) == pytest.approx(entries[: -6 - 7].sum() / entries.sum())


def test_shards_are_a_least_squares_fit():
    each = change(3, 7)
    atoms = np.zeros((3, 2, 3, 7))
    for row in range(3):
        for column in range(7):
            atoms[row, column % 2, row, column] = 1
    assert residual("shards", 2, each) == pytest.approx(left_by_atoms(each.delta.numpy(), atoms.reshape(6, 3, 7)))


def test_gains_on_random_directions_are_as_good_as_brute_force():
    each = change(4, 5)
    a, b = (factor.numpy() for factor in random_factors(3, (4, 5), PATIENT.seed))

    def loss(x):
        return squared(each.delta.numpy() - x[:4, None] * ((b * x[4:]) @ a)) / each.norm**2

    assert residual("shared_random", 3, each) == pytest.approx(brute_force(loss, 7), abs=1e-6)


def test_a_subspace_of_one_layer_is_its_leading_singular_vectors():
    each = change(8, 6)
    s = np.linalg.svd(each.delta.numpy(), compute_uv=False)
    assert residual("shared_subspace", 2, each) == pytest.approx(squared(s[2:]) / squared(s), abs=1e-8)


def test_a_subspace_of_several_layers_is_as_good_as_brute_force():
    changes = [change(4, 3, seed=seed) for seed in range(3)]
    deltas = np.stack([each.delta.numpy() for each in changes])

    def loss(x):
        left, right = np.linalg.qr(x[:8].reshape(4, 2))[0], np.linalg.qr(x[8:].reshape(3, 2))[0]
        return 1 - squared(left.T @ deltas @ right) / squared(deltas)

    assert residual("shared_subspace", 2, *changes) == pytest.approx(brute_force(loss, 14), abs=1e-6)
