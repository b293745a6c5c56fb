"""Sentences about a weight change state the numbers of its result, and say what is unknown."""

from __future__ import annotations

import dataclasses

import pytest

from adapterlab.geometry.result import GeometryResult, Null, Projection
from adapterlab.report.geometry_numbers import percent
from adapterlab.report.geometry_tables import by_depth, by_role, main_budget, standardized
from adapterlab.report.geometry_words import answer, paragraphs
from tests.report.geometries import change, layer, projections, scored


def said(result: GeometryResult) -> str:
    return " ".join(" ".join((each.title, each.text, *each.points)) for each in paragraphs(result))


def test_the_answer_names_the_best_the_next_and_the_last_at_equal_parameters():
    result = change(projections=projections({"low_rank": (0.2, 0.5), "b": (0.1, 0.4), "c": (0.3, 0.1)}))
    assert main_budget(result) == 1
    assert answer(result) == (
        "With at most 4,000 parameters, low rank can reproduce 50 % of the change from base to tuned: the most of the 3 "
        "hypotheses of that size. Next is b with at least 40 %, last c with 10 %."
    )


def test_the_best_of_a_search_is_at_least():
    result = change(projections=projections({"a": (0.2, 0.5), "b": (0.3, 0.7)}))
    assert "b can reproduce at least 70 %" in answer(result)


def test_positions_that_are_chosen_in_hindsight_are_said_to_flatter():
    result = change(projections=projections({"low_rank": (0.2, 0.4), "b": (0.1, 0.3), "sparse": (0.3, 0.6)}))
    assert "Sparse chooses its positions by looking at the change; the method cannot, and reaches less." in answer(
        result
    )
    assert "Sparse chooses its positions" in said(result)
    assert "positions" not in answer(change())


def test_without_a_projection_the_answer_says_so():
    assert "not projected on any hypothesis" in answer(change(projections=(), budgets=()))


def test_a_hypothesis_with_less_than_half_of_the_parameters_is_not_compared():
    small = Projection("small", 1, 400, 0.01)
    result = change(projections=(*projections({"a": (0.2, 0.5), "b": (0.1, 0.4)}), small))
    assert "small" not in answer(result)
    assert "Not compared, since smaller than half of that: small (400 parameters, 99 %)." in said(result)


def test_a_hypothesis_that_is_too_large_is_named():
    large = Projection("large", 1, 10**6, 0.01)
    result = change(projections=(*projections({"a": (0.2, 0.5), "b": (0.1, 0.4)}), large))
    assert "larger at the smallest size already: large." in said(result)


def test_chance_counts_the_layers_above_and_below():
    layers = (layer("up", 0), layer("up", 1), layer("query", 0, top=0.01, rank=1.0))
    text = said(change(layers=layers))
    assert "20 % in the median layer, 1.0 % by chance; above chance in 2 of 3 layers." in text
    assert "Stable rank" not in text  # within chance in two of three
    assert "1 of 2 is away from chance" in text


def test_a_change_like_noise_is_said_to_be_like_noise():
    layers = tuple(layer("up", depth, top=0.01) for depth in range(3))
    assert "the change cannot be told from noise" in said(change(layers=layers))


def test_role_and_depth_are_shares_of_the_squared_norm():
    result = change(layers=(layer("query", 0, norm=1.0), layer("up", 1, norm=3.0)))
    assert [(place.name, place.share) for place in by_role(result)] == [("query", 0.1), ("up", 0.9)]
    assert [(place.name, place.share) for place in by_depth(result)] == [("0", 0.1), ("1", 0.9)]
    assert "the up layers hold 90 % of the change in 67 % of the entries" in said(result)
    assert "block 0 holds 10 % and block 1 holds 90 %" in said(result)


def test_without_a_task_the_worth_is_unknown():
    assert "No task was given, so the worth of the projected changes is unknown." in said(change())


def test_scores_are_shares_of_the_gain_and_forgetting_is_a_rise():
    text = said(scored())
    assert "the full change lowers the loss from 1.200 to 1.100 nats per byte" in text
    assert "low rank keeps the most of that gain (73 %)" in text
    assert "On general text, the full change raises the loss from 1.000 to 1.040" in text
    assert "change it by +0.004 (made_up_15) to +0.022 (low rank). A rise here is forgetting." in text


def test_a_change_without_a_gain_has_no_share_of_it():
    text = said(scored(gain=-0.1))
    assert "raises the loss from 1.200 to 1.300" in text
    assert "there is no gain of which a projection could keep a share" in text
    assert "nan" not in text


def test_other_changed_parameters_are_named():
    text = said(change(others=(("model.norm", 0.1, 0.02), ("lm_head", 2.0, 0.3))))
    assert "2 other parameters changed" in text
    assert "lm_head the most, by 30 %" in text


def test_unchanged_layers_are_counted():
    assert "6 of 8 linear layers changed" in said(change(unchanged=("a", "b")))


def test_low_rank_is_compared_with_what_it_expresses_of_a_random_change():
    """By numpy: rank 2 of random changes of these shapes and norms."""
    import numpy as np

    result = change()
    random = np.random.default_rng(0)
    kept, total = 0.0, 0.0
    for each in result.layers:
        for _ in range(20):
            s = np.linalg.svd(random.standard_normal(each.shape), compute_uv=False)
            kept += each.norm**2 * (s[:2] ** 2).sum() / (s**2).sum()
            total += each.norm**2
    stated = next(text for _, text, _ in paragraphs(result) if "of a random change" in text)
    assert float(stated.split("expresses more of anything: ")[1].split(" %")[0]) == pytest.approx(
        100 * kept / total, abs=1.5
    )


@pytest.mark.parametrize("share", [1e-9, 0.5, 0.99999, 1 - 1e-12])
def test_a_share_that_is_neither_nothing_nor_all_is_never_printed_as_such(share):
    assert percent(share) not in ("0 %", "100 %", "0.0 %", "0.00 %")


def test_distance_from_chance_is_in_standard_deviations_of_the_draws():
    assert standardized(3.0, Null(1.0, 1 - 1.959964, 1 + 1.959964)) == pytest.approx(2)
    assert standardized(3.0, Null(2.0, 2.0, 2.0)) == float("inf")
    assert standardized(2.0, Null(2.0, 2.0, 2.0)) == 0


def test_drift_of_both_texts_is_stated():
    activations = {"task": {"a": {"drift": 0.04}, "b": {"drift": 0.02}}, "general": {"a": {"drift": 0.01}}}
    assert "3.0 % on the task text and 1.0 % on general text" in said(change(activations=activations))


def test_sharing_counts_comparisons_with_chance():
    result = dataclasses.replace(
        change(),
        sharing={"up (64, 32)": {"left": 0.5, "right": 0.1}},
        sharing_nulls={"up (64, 32)": {"left": Null(0.2, 0.1, 0.3), "right": Null(0.2, 0.05, 0.3)}},
    )
    assert "Of 2 comparisons, 1 show more in common than random changes have, and 0 less." in said(result)
