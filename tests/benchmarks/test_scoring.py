"""The share of a study's time that is spent on scoring."""

from __future__ import annotations

import pytest

from benchmarks.scoring import lines, medians, share

SECONDS = {"search_train": 2.0, "search_score": 1.0, "report_train": 8.0, "report_score": 4.0}


def test_the_share_is_that_of_all_trials_of_a_contest():
    assert share(SECONDS, searches=4, reports=1) == pytest.approx((4 * 1 + 4) / (4 * 3 + 12))
    assert share({**SECONDS, "search_score": 0.0, "report_score": 0.0}, searches=4, reports=1) == 0


def test_one_slow_round_does_not_move_the_middle():
    slow = dict.fromkeys(SECONDS, 100.0)
    assert medians([SECONDS, slow, SECONDS]) == SECONDS


def test_each_method_is_a_line_with_all_checkouts_side_by_side():
    found = {side: {"lora": {**SECONDS, "share": 0.25}} for side in ("before", "after")}
    assert list(lines(found))[-1] == "| lora | 8.0 s | 4.0 s | 25% | 8.0 s | 4.0 s | 25% |"
