"""Contrasts and their weights."""

from __future__ import annotations

from adapterlab.lab.analysis.contrast import Contrast, Term, difference, gain, share_beyond, value
from adapterlab.lab.trial.spec import FROZEN


def test_better_is_positive_whichever_way_a_metric_points():
    assert [term.weight for term in difference("a", "b", "in_domain").terms] == [-1, 1]
    assert [term.weight for term in difference("a", "b", "accuracy").terms] == [1, -1]
    assert gain("a", "in_domain") == difference("a", FROZEN, "in_domain")
    assert value("a", "forgetting") == Contrast((Term("a", "forgetting", 1.0),))


def test_only_a_plain_difference_of_two_trained_contestants_is_pooled_with_other_pairs():
    assert difference("a", "b", "in_domain").pooled_metric == "in_domain"
    assert gain("a", "in_domain").pooled_metric is None
    assert share_beyond(("a", "in_domain"), ("b", "in_domain"), 0.9).pooled_metric is None
    assert share_beyond(("a", "out_of_domain"), ("a", "in_domain"), 0.5).pooled_metric is None


def test_a_share_of_a_gain_is_taken_off_another_gain():
    contrast = share_beyond(("a", "out_of_domain"), ("a", "in_domain"), 0.5)
    assert contrast.trained == ("a",)
    assert contrast.weights_of("a") == {"out_of_domain": -1.0, "in_domain": 0.5}
    assert contrast.weights_of(FROZEN) == {"out_of_domain": 1.0, "in_domain": -0.5}


def test_margins_add_up():
    assert difference("a", "b", "in_domain").beyond(0.01).beyond(0.02).minus == 0.03
