"""Sizes that are near the budget, and those that are flagged."""

from __future__ import annotations

import pytest

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.sizing import budget_flag, size_to_budget
from adapterlab.lab.study.spec import Contestant
from adapterlab.models.loading import load_causal
from adapterlab.surgery import parameter_count
from tests.conftest import tiny_llama


@pytest.mark.parametrize(
    ("parameters", "budget", "flag"),
    [
        (0, 100, "below"),
        (49, 100, "below"),
        (50, 100, ""),
        (51, 100, ""),
        (99, 100, ""),
        (100, 100, ""),
        (101, 100, "above"),
        (250, 100, "above"),
        (50, 101, "below"),
        (51, 101, ""),
        (0, None, ""),
        (10**9, None, ""),
    ],
)
def test_a_size_from_half_the_budget_to_all_of_it_is_near(parameters, budget, flag):
    assert budget_flag(parameters, budget) == flag


def test_a_contestant_is_the_largest_within_the_budget():
    """A rank of LoRA on two blocks of this model is 2 x (32 + 32 + 2 x 48 + 2 x 48 + 2 x 80) parameters.

    These are q and o (32 to 32), k and v (32 to 16), gate and up (32 to 48) and down (48 to 32).
    """
    model, rank = tiny_llama(), 2 * (2 * (32 + 32) + 2 * (32 + 16) + 3 * (32 + 48))
    for budget, expected in ((5 * rank, 5), (6 * rank - 1, 5), (6 * rank, 6)):
        found = size_to_budget(Contestant(adapter="lora"), model, budget)
        assert (found.adapter.rank, found.parameters) == (expected, expected * rank)
    assert size_to_budget(Contestant(adapter="lora"), model, 1).parameters == rank
    kept = size_to_budget(Contestant(adapter="lora", settings={"rank": 3}), model, None)
    assert (kept.adapter.rank, kept.parameters) == (3, 3 * rank)
    queries = size_to_budget(Contestant(adapter="lora", targets="q_proj", settings={"rank": 3}), model, None)
    assert queries.parameters == 3 * 2 * (32 + 32)


def test_a_contestant_that_cannot_run_is_named():
    entry = Contestant(adapter="lora", label="mine", targets="nothing_proj")
    with pytest.raises(AdapterlabError, match="contestant 'mine' cannot run on this model"):
        size_to_budget(entry, tiny_llama(), None)


def test_adalora_is_sized_by_the_rank_that_it_keeps():
    """As in its paper, where an initial rank of 1.5 times the target is compared with LoRA at the target's size."""
    model, layers = tiny_llama(), 2 * 7
    budget = parameter_count(model, adapter("lora", rank=8)) + 8 * layers  # and a singular value for each rank
    found = size_to_budget(Contestant(adapter="adalora"), model, budget)
    assert (found.adapter.rank, found.parameters) == (12, budget)
    assert parameter_count(model, found.adapter) == 1.5 * budget


@pytest.mark.parametrize("budget", [20_000, 80_000, 160_000, 320_000])
@pytest.mark.parametrize("name", ["vera", "lokr", "fourierft", "adalora", "delora", "dora"])
def test_what_can_be_of_any_size_is_near_every_budget_of_the_shipped_studies(name, budget):
    """Only DoRA's rank 1, which also trains a magnitude for each output, is above LoRA's rank 1, the smallest budget."""
    model = load_causal().model
    found = size_to_budget(Contestant(adapter=name), model, budget)
    smallest = found == size_to_budget(Contestant(adapter=name), model, 1)
    above = (name, budget) == ("dora", 20_000)
    assert budget_flag(found.parameters, budget) == ("above" if above else "")
    assert smallest or not above


def test_lokr_keeps_its_factor_where_the_budget_allows_it():
    model = load_causal().model
    factors = [size_to_budget(Contestant(adapter="lokr"), model, n).adapter.factor for n in (20_000, 160_000, 320_000)]
    assert factors == [8, 4, 2]
    assert size_to_budget(Contestant(adapter="lokr", settings={"full": True}), model, 160_000).adapter.factor == 8
