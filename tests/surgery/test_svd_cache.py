"""The cache of decompositions, and its randomized kind."""

from __future__ import annotations

import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.surgery import attach
from adapterlab.surgery.init.svd_cache import FactorCache
from adapterlab.surgery.model.linear_layers import linears
from tests.adapters.methods import small
from tests.conftest import tiny_llama


def low_rank(rank=5, noise=1e-3):
    generator = torch.Generator().manual_seed(0)
    tall, wide, rest = (torch.randn(*s, generator=generator) for s in ((60, rank), (rank, 40), (60, 40)))
    return tall @ wide + noise * rest


def test_a_randomized_decomposition_finds_the_top_triplets():
    weight = low_rank()
    exact, quick = FactorCache()(weight, 5), FactorCache()(weight, 5, 2)
    for a, b in zip(exact, quick, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("iterations", [0, 1])
def test_a_randomized_decomposition_does_not_depend_on_what_filled_the_cache(tmp_path, iterations):
    weight = torch.randn(60, 40, generator=torch.Generator().manual_seed(0))
    alone = FactorCache()(weight, 5, iterations)
    filled = FactorCache(tmp_path)
    assert not torch.allclose(filled(weight).s[:5], alone.s)
    for known in (filled, FactorCache(tmp_path)):
        assert all(torch.equal(a, b) for a, b in zip(known(weight, 5, iterations), alone, strict=True))


def test_pissa_starts_alike_before_and_after_another_method_filled_the_cache():
    fast = adapter("pissa", rank=2, iterations=1)
    alone = attach(tiny_llama(), fast, factors=FactorCache())
    filled = FactorCache()
    attach(tiny_llama(), small("svft"), factors=filled)
    after = attach(tiny_llama(), fast, factors=filled)
    assert filled.computed == 2 * len(after.sites)
    for path, site in alone.sites.items():
        here = after.sites[path].state
        assert all(torch.equal(tensor, here[name]) for name, tensor in site.state.trainable.items())


def test_a_randomized_decomposition_is_kept_and_never_taken_for_a_full_one(tmp_path):
    weight = low_rank()
    first = FactorCache(tmp_path)
    quick = first(weight, 5, 2)
    again = FactorCache(tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(quick, again(weight, 5, 2), strict=True))
    assert again.computed == 0
    assert len(again(weight).s) == 40
    assert again.computed == 1


def test_shapes_alone_are_given_for_a_weight_without_values():
    u, s, vt = FactorCache()(torch.empty(6, 4, device="meta", dtype=torch.bfloat16), 3)
    assert (u.shape, s.shape, vt.shape) == ((6, 3), (3,), (3, 4))
    assert u.dtype == torch.float32


SVD_FAMILY = ["svft", "ssvd", "antipasto", "psoft", "pissa"]


def test_the_svd_family_on_one_model_costs_one_decomposition_a_layer(tmp_path):
    """The others read the cache, in this process and in the next, on this model and on a copy."""
    first = FactorCache(tmp_path)
    layers = len(linears(tiny_llama()))
    for name in SVD_FAMILY:
        attach(tiny_llama(), small(name), factors=first)
        assert first.computed == layers
    for name in SVD_FAMILY:
        again = FactorCache(tmp_path)
        attach(tiny_llama(), small(name), factors=again)
        assert again.computed == 0


def test_weights_given_together_are_decomposed_each_for_itself():
    together = torch.stack([low_rank(), low_rank().flip(0)])
    for options in ({}, {"rank": 5}, {"rank": 5, "iterations": 2}):
        found = FactorCache()(together, **options)
        for head, weight in enumerate(together):
            for part, alone in zip(found, FactorCache()(weight, **options), strict=True):
                torch.testing.assert_close(part[head], alone)
