"""Streamed geometry of a change: equal to that in memory, with budgets, notes, and mistakes found first."""

from __future__ import annotations

import pytest
import torch

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.geometry.change import InMemory, OtherChange
from adapterlab.geometry.checkpoint import Checkpoint
from adapterlab.geometry.checkpoint_change import CheckpointChange
from adapterlab.geometry.plan import Plan, default_budgets
from adapterlab.geometry.run import run_geometry
from tests.geometry.checkpoints import save_pair

PLAN = Plan(hypotheses=("low_rank",), measures=("stable_rank",), draws=2, budgets=(500, 2000))


def planted(rank: int = 2, size: float = 0.1) -> InMemory:
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for path, (rows, columns) in {"h.0.up": (24, 16), "h.0.down": (16, 24)}.items():
        base = torch.randn(rows, columns, generator=generator)
        left, right = (torch.randn(s, generator=generator) for s in ((rows, rank), (rank, columns)))
        weights[path] = base, base + size * left @ right
    return InMemory(weights)


def test_a_planted_rank_is_found_at_its_number_of_parameters():
    result = run_geometry(planted(), Plan(budgets=(80, 160), hypotheses=("lora",), draws=2))
    assert [each.parameters for each in result.projections] == [80, 160]
    assert result.projections[1].residual < 1e-9 < 0.05 < result.projections[0].residual


def test_streamed_and_in_memory_are_the_same(tmp_path):
    base, tuned = save_pair(tmp_path)
    change = CheckpointChange(Checkpoint(base), Checkpoint(tuned))
    streamed = run_geometry(change, PLAN)
    held = InMemory({layer.path: (layer.base, layer.tuned) for layer in change if layer.norm})
    expected = run_geometry(held, PLAN)
    assert streamed.layers == expected.layers
    for found, other in zip(streamed.projections, expected.projections, strict=True):
        assert (found.size, found.parameters) == (other.size, other.parameters)
        assert found.residual == pytest.approx(other.residual, abs=1e-9)
    assert len(streamed.unchanged) == len(change.shapes) - 2


def test_default_budgets_are_ranks_1_to_32_or_the_smallest_side():
    assert default_budgets({"up": (128, 64)}) == (192, 457, 1086, 2583, 6144)
    assert default_budgets({"up": (128, 8)})[-1] == 8 * 136


def test_a_change_of_zero_is_named():
    base = torch.ones(3, 3)
    with pytest.raises(AdapterlabError, match="tuned and base are equal"):
        run_geometry(InMemory({"up": (base, base)}), PLAN)


def test_a_change_of_other_parameters_alone_is_named():
    base = torch.ones(3, 3)
    change = InMemory({"up": (base, base)}, others=[OtherChange("norm.weight", 1.0, 0.1)])
    with pytest.raises(AdapterlabError, match=r"no linear layer of tuned differs from base, only norm\.weight"):
        run_geometry(change, PLAN)


def test_other_changed_parameters_are_noted():
    whole = planted()
    weights = {layer.path: (layer.base, layer.tuned) for layer in whole}
    result = run_geometry(InMemory(weights, others=[OtherChange("norm.weight", 1.0, 0.125)]), PLAN)
    assert "1 other parameters changed too, most of all norm.weight (by 0.12 of its norm)" in result.notes[0]
    assert result.others == (("norm.weight", 1.0, 0.125),)


def test_an_unrelated_base_is_doubted():
    generator = torch.Generator().manual_seed(1)
    base, tuned = (torch.randn(16, 16, generator=generator) for _ in range(2))
    assert (
        "is base the model that tuned was trained from?" in run_geometry(InMemory({"up": (base, tuned)}), PLAN).notes[0]
    )


def test_a_budget_below_the_smallest_change_is_noted():
    result = run_geometry(planted(), Plan(budgets=(10,), hypotheses=("low_rank",), draws=2))
    assert result.projections == ()
    assert result.notes == ("Low rank was left out: its smallest change has more than 10 parameters.",)


def test_the_last_weight_is_checked_before_the_first_is_measured(tmp_path):
    from tests.geometry.checkpoints import edit

    base, tuned = save_pair(tmp_path)
    edit(tuned, model__layers__1__mlp__down_proj__weight=torch.full((32, 48), float("nan")))
    stages = []
    with pytest.raises(AdapterlabError, match=r"layers\.1\.mlp\.down_proj\.weight in .* holds NaN"):
        run_geometry(
            CheckpointChange(Checkpoint(base), Checkpoint(tuned)), PLAN, watch=lambda stage, *_: stages.append(stage)
        )
    assert set(stages) == {"reading the weights"}


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (Plan(hypotheses=("low_rnak",)), "unknown hypothesis 'low_rnak': did you mean low_rank"),
        (Plan(measures=("stable_rnk",)), "unknown measure 'stable_rnk': did you mean stable_rank"),
        (Plan(budgets=(0,)), "a budget of 0 parameters holds no change"),
        (Plan(draws=1), "1 draws give no interval"),
        (Plan(score_at=(0,)), "a budget of 0 parameters holds no change"),
        (Plan(score_at=()), "no number of parameters to score at"),
    ],
)
def test_choices_that_make_no_sense_are_named(plan, message):
    with pytest.raises(AdapterlabError, match=message):
        run_geometry(planted(), plan)


def test_unknown_names_are_of_the_error_that_suggests():
    with pytest.raises(UnknownNameError):
        Plan(measures=("norm",)).check()


def test_a_direction_that_all_layers_share_is_found():
    generator = torch.Generator().manual_seed(2)
    row = torch.randn(1, 16, generator=generator)
    weights = {}
    for block in range(3):
        base, left = torch.randn(24, 16, generator=generator), torch.randn(24, 1, generator=generator)
        weights[f"h.{block}.mlp.up_proj"] = base, base + 0.1 * left @ row
    result = run_geometry(InMemory(weights), Plan(hypotheses=("low_rank",), budgets=(80,), draws=3))
    [(group, values)] = result.sharing.items()
    overlap = {name: value for name, value in values.items() if "overlap" in name}
    right = next(value for name, value in overlap.items() if name.startswith("right"))
    assert right == pytest.approx(1, abs=1e-3)
    assert result.sharing_nulls[group].keys() == values.keys()


def test_groups_that_do_not_fit_in_memory_are_left_out_with_a_note(monkeypatch):
    monkeypatch.setattr("adapterlab.geometry.shared.GROUP_IN_MEMORY", 1000)
    weights = {f"h.{block}.mlp.up_proj": (torch.zeros(24, 16), torch.ones(24, 16)) for block in range(2)}
    result = run_geometry(InMemory(weights), Plan(hypotheses=("low_rank",), budgets=(80,), draws=3))
    assert result.sharing == {}
    assert "Shared subspaces were left out of 2 up layers" in " ".join(result.notes)
