"""The law of the singular values of random changes agrees with singular values of drawn matrices."""

from __future__ import annotations

import numpy as np
import pytest

from adapterlab.geometry.random_spectrum import random_spectrum


def drawn(shape: tuple[int, int]) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(shape)
    return np.linalg.svd(noise, compute_uv=False) / np.linalg.norm(noise)


@pytest.mark.parametrize("shape", [(256, 256), (300, 100), (100, 300), (400, 50), (64, 64)])
def test_it_is_near_a_draw(shape):
    expected = drawn(shape)
    assert np.allclose(random_spectrum(shape, len(expected)), expected, atol=0.05 * expected[0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (16, 16), (31, 200)])
def test_the_squares_of_all_values_add_up_to_one(shape):
    values = random_spectrum(shape, min(shape))
    assert sum(value**2 for value in values) == pytest.approx(1)
    assert list(values) == sorted(values, reverse=True)


def test_its_ends_are_those_of_the_law():
    """Marchenko and Pastur: squared singular values over rows end at (1 - sqrt(y))^2 and (1 + sqrt(y))^2."""
    values = np.array(random_spectrum((4000, 1000), 1000)) ** 2 * 1000
    assert values[0] == pytest.approx((1 + 0.5) ** 2, rel=0.01)
    assert values[-1] == pytest.approx((1 - 0.5) ** 2, rel=0.02)


def test_a_transposed_matrix_has_the_same_values():
    assert random_spectrum((30, 80), 30) == random_spectrum((80, 30), 30)


def test_a_matrix_without_entries_is_refused():
    with pytest.raises(ValueError, match=r"\(0, 3\)"):
        random_spectrum((0, 3), 1)
