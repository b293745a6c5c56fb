"""Exact match, F1 and containment of answers, held to the copy of SQuAD's evaluation script in lm-eval."""

from __future__ import annotations

import importlib.util
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterlab.errors import AdapterlabError
from adapterlab.tasks.answer_metrics import beside, contains, exact_match, normalized, scorer_of, title_of, token_f1

_SPEC = importlib.util.find_spec("lm_eval")
_FILE = Path(_SPEC.submodule_search_locations[0]) / "tasks" / "qasper" / "metrics.py"
_SQUAD = importlib.util.spec_from_file_location("squad", _FILE)
squad = importlib.util.module_from_spec(_SQUAD)
_SQUAD.loader.exec_module(squad)
WORDS = st.sampled_from(
    ["the", "The", "a", "an", "cat", "Cat!", "dog,", "7", "42.", "(12)", "$5", "5%", "x2", "?", "-", "É"]
)
TEXTS = st.lists(WORDS, max_size=6).map(" ".join)


@given(TEXTS, TEXTS)
def test_without_fractions_and_signs_the_metrics_are_those_of_squad(prediction, reference):
    assert normalized(prediction) == squad.normalize_answer(prediction)
    assert exact_match(prediction, reference) == (
        squad.normalize_answer(prediction) == squad.normalize_answer(reference)
    )
    if normalized(prediction) or normalized(reference):  # two answers without words are equal since version 2.0
        assert token_f1(prediction, reference) == pytest.approx(squad.f1_abstractive([prediction], [reference]))


@given(st.text(alphabet=string.ascii_letters + string.punctuation + " \n\té", max_size=30))
def test_texts_without_digits_are_normalized_as_squad_does(text):
    assert normalized(text) == squad.normalize_answer(text)


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        *(("1,200", "1200"), ("42.", "42"), ("42.0", "42"), ("$ 1,200.50", "1200.5"), ("+5", "5"), (".5", "0.5")),
        *(
            ("\u22123", "-3"),
            ("-0.0", "0"),
            ("The answer: 7!", "answer 7"),
            ("1,234,567", "1234567"),
            ("x = -5", "x -5"),
        ),
        *(("about 3.10 km", "about 3.1 km"), ("1e-5", "1e-5")),
    ],
)
def test_numbers_of_equal_value_match(prediction, reference):
    assert exact_match(prediction, reference) == contains(prediction, reference) == 1
    assert token_f1(prediction, reference) == 1


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        *(("-5", "5"), ("1.5", "15"), ("1/2", "12"), ("12:30", "1230"), ("3-5", "35"), ("1e-5", "1e5"), ("-.5", "5")),
        *(("0.50", "50"), ("1,2", "12"), ("10", "1"), ("2.0.1", "201"), ("007", "7")),
    ],
)
def test_numbers_that_differ_do_not_match(prediction, reference):
    """SQuAD's own normalization calls the first seven pairs equal."""
    for one, other in ((prediction, reference), (reference, prediction)):
        assert exact_match(one, other) == contains(one, other) == token_f1(one, other) == 0


def test_squad_would_take_them_for_equal():
    assert squad.normalize_answer("-5") == squad.normalize_answer("5")
    assert squad.normalize_answer("1.5") == squad.normalize_answer("15")


def test_containment_is_of_whole_words_in_their_order():
    assert contains("It is the New York!", "new york") == 1
    assert contains("york new", "new york") == contains("420", "42") == contains("newyork", "york") == 0
    assert contains("anything", "?") == 0
    assert contains("!", "?") == 1


def test_a_scorer_is_named_by_its_file_and_function(tmp_path):
    assert scorer_of("f1") is None
    assert scorer_of("python:lib.mine.score") == ("lib/mine.py", "score")
    found = beside("python:mine.score", tmp_path)
    assert scorer_of(found) == (str(tmp_path / "mine.py"), "score")
    assert scorer_of(found).name == "python:mine.score"
    assert beside(found, Path("/elsewhere")) == found
    assert beside("contains", tmp_path) == "contains"
    assert (title_of("exact_match"), title_of(found)) == ("exact match", "mine.score")


@pytest.mark.parametrize(
    "metric", ["bleu", "python:score", "python:mine.", "mine.score", "python:", "python:mine.not it"]
)
def test_an_unknown_metric_is_one_line(metric):
    with pytest.raises(
        AdapterlabError, match=r"give one of exact_match, f1, contains, or python:FILE\.FUNCTION"
    ) as error:
        scorer_of(metric)
    assert "\n" not in str(error.value)
