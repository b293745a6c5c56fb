"""What the options of `adapterlab tune` mean."""

from __future__ import annotations

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.tuning.request import SHORTLIST, duration, make_request, parameters
from tests.tasks.user_files import completions, write


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("30", 1800), ("1.5h", 5400), ("1d", 86400)])
def test_lengths_of_time(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "count"), [("0.5%", 5000), ("20000", 20_000), ("20,000", 20_000), ("20k", 20_000), ("1.5M", 1_500_000)]
)
def test_budgets(text, count):
    assert parameters(text, 10**6) == count


@pytest.mark.parametrize("text", ["0%", "101%", "-5", "many", "0.00001%"])
def test_budgets_that_are_none(text):
    with pytest.raises(AdapterlabError, match="--budget"):
        parameters(text, 10**6)


@pytest.mark.parametrize("text", ["0", "-1m", "3 weeks", ""])
def test_times_that_are_none(text):
    with pytest.raises(AdapterlabError, match="--time"):
        duration(text)


def asked(tmp_path, **changes):
    options = {
        "evaluate": None,
        "ood": None,
        "keep": None,
        "contestants": None,
        "time": "1m",
        "budget": None,
        "seeds": None,
        "batch": 8,
        "length": None,
    }
    return make_request("embedded", tmp_path / "prose.jsonl", **options | changes)


def test_a_task_of_ones_own_is_not_one_of_the_built_in(tmp_path):
    assert asked(tmp_path).data.name == "prose-data"


def test_contestants_are_taken_once_and_full_ft_runs_along_anyway(tmp_path):
    request = asked(tmp_path, contestants="hra, lora,hra,full_ft")
    assert (request.contestants, request.chosen) == (("hra", "lora"), True)
    assert (asked(tmp_path).contestants, asked(tmp_path).chosen) == (SHORTLIST, False)


def test_other_rows_are_another_request(tmp_path):
    write(tmp_path / "prose.jsonl", completions(20))
    first = asked(tmp_path).to_json()
    assert asked(tmp_path).to_json() == first
    assert asked(tmp_path, time="2m").to_json() != first


def test_ranks_are_compared_of_lora_if_nothing_else_is_named(tmp_path):
    request = asked(tmp_path, ranks="16,4,64")
    assert (request.ranks, request.contestants, request.shortlisted) == ((4, 16, 64), ("lora",), False)
    assert asked(tmp_path, ranks="4,8", contestants="dora,lora").contestants == ("dora", "lora")


def test_targets_are_levels_of_one_or_more_names(tmp_path):
    assert asked(tmp_path, targets="attention,all-linear,q_proj+v_proj").targets == (
        "attention",
        "all-linear",
        "q_proj+v_proj",
    )


def test_all_methods_race_unless_the_seeds_are_given(tmp_path):
    request = asked(tmp_path, methods="all")
    assert request.contestants[0] == "lora"
    assert {"oft", "vera", "ia3", "prefix"} <= set(request.contestants)
    assert "full_ft" not in request.contestants
    assert (request.racing, request.shortlisted) == (True, False)
    assert not asked(tmp_path, methods="all", seeds=3).racing


WRONG = {
    "one rank": ({"ranks": "8"}, "--ranks '8' names fewer than two levels"),
    "no rank": ({"ranks": "4,many"}, "--ranks '4,many' are not ranks"),
    "rank and budget": ({"ranks": "4,8", "budget": "1%"}, "--ranks and --budget both set the size"),
    "a method without rank": ({"ranks": "4,8", "contestants": "lora,ia3"}, "ia3 has no rank"),
    "one target": ({"targets": "attention"}, "--targets 'attention' names fewer than two levels"),
    "methods": ({"methods": "some"}, "--methods 'some' is not known: give all"),
    "methods and names": (
        {"methods": "all", "contestants": "lora"},
        "--methods all and --contestants cannot be combined",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_levels_that_cannot_be_compared_are_one_line(name, tmp_path):
    options, message = WRONG[name]
    with pytest.raises(AdapterlabError, match=message):
        asked(tmp_path, **options)
