"""The cache of decompositions, and its randomized kind."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from adapterlab.adapters import adapter
from adapterlab.adapters.context import Factors
from adapterlab.surgery import attach
from adapterlab.surgery.init import svd_files
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


# --- damaged files ---


def only_file(folder):
    (file,) = folder.glob("*.safetensors")
    return file


@pytest.fixture
def cached(tmp_path):
    FactorCache(tmp_path / "factors")(low_rank().T @ low_rank())
    return tmp_path / "factors"


def rewritten(folder, sign=True, **changes):
    """The file with other factors; with a checksum that fits them if `sign`."""
    file = only_file(folder)
    tensors = load_file(file)
    checksum = tensors.pop("checksum")
    factors = Factors(**(tensors | {name: change(tensors) for name, change in changes.items()}))
    if sign:
        file.unlink()
        svd_files.write(folder, file.stem, factors)
    else:
        save_file({name: t.contiguous() for name, t in factors._asdict().items()} | {"checksum": checksum}, file)


def flipped(tensors):
    u = tensors["u"].clone()
    u.view(torch.int32)[0, 0] ^= 1 << 20
    return u


def computed_again(folder, message):
    weight = low_rank().T @ low_rank()
    cache = FactorCache(folder)
    with pytest.warns(UserWarning, match=f"is damaged .*{message}.*computed again"):
        found = cache(weight)
    assert cache.computed == 1
    for part, exact in zip(found, FactorCache()(weight), strict=True):
        assert torch.equal(part, exact)
    again = FactorCache(folder)
    again(weight)
    assert again.computed == 0


def test_a_flipped_bit_is_not_accepted(cached):
    rewritten(cached, sign=False, u=flipped)
    computed_again(cached, "checksum")


@pytest.mark.parametrize(
    "changes",
    [
        {"u": lambda t: t["vt"].T, "vt": lambda t: t["u"].T + 0.1},
        {"s": lambda t: t["s"] * 1.05},
        {"s": lambda t: t["s"] * float("nan")},
        {"u": lambda t: t["u"].flip(0)},
        {"u": lambda t: t["u"] * 1.05, "vt": lambda t: t["vt"] * 1.05},
        {"u": lambda t: t["u"][:, :5], "s": lambda t: t["s"][:5], "vt": lambda t: t["vt"][:5]},
        {"u": lambda t: t["u"].double()},
    ],
    ids=["swapped", "values", "nan", "rows", "scaled", "rank", "dtype"],
)
def test_other_factors_are_not_accepted_even_with_a_checksum(cached, changes):
    rewritten(cached, **changes)
    computed_again(cached, "")


@pytest.mark.parametrize("content", [b"", b"\x00" * 8, b"x" * 100, b"\xff" * 100_000])
def test_other_bytes_are_not_accepted(cached, content):
    only_file(cached).write_bytes(content)
    computed_again(cached, "")


def test_files_are_for_the_owner_and_links_are_not_followed(cached, tmp_path):
    assert cached.stat().st_mode & 0o777 == 0o700
    file = only_file(cached)
    assert file.stat().st_mode & 0o777 == 0o600
    file.rename(tmp_path / "elsewhere")
    content = (tmp_path / "elsewhere").read_bytes()
    file.symlink_to(tmp_path / "elsewhere")
    computed_again(cached, "")
    assert not file.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == content


def test_an_entry_of_another_weight_is_not_accepted(cached):
    file = only_file(cached)
    other = FactorCache(cached)
    other(torch.randn(40, 40, generator=torch.Generator().manual_seed(1)))
    (second,) = set(cached.glob("*.safetensors")) - {file}
    second.replace(file)
    computed_again(cached, "checksum")


def test_good_files_are_accepted_for_weights_of_every_kind(tmp_path, recwarn):
    generator = torch.Generator().manual_seed(0)
    weights = [torch.zeros(4, 3), torch.full((5, 5), 1e-30), 1e20 * torch.randn(6, 4, generator=generator)]
    weights += [torch.randn(3, 30, generator=generator), torch.randn(2, 8, 6, generator=generator).double(), low_rank()]
    for weight in weights:
        for rank, iterations in ((2, 2), (None, None)):
            FactorCache(tmp_path)(weight, rank, iterations)
            again = FactorCache(tmp_path)
            again(weight, rank, iterations)
            assert again.computed == 0
    assert not recwarn
