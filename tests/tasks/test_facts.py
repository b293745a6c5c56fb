"""The `facts` task: stated in some wordings, asked in others, and in reverse."""

from __future__ import annotations

import sysconfig
from pathlib import Path

import pytest

from adapterlab.tasks import task
from adapterlab.tasks.base import Part
from adapterlab.tasks.facts import MODULES, QUESTIONS, STATEMENTS, facts

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
FILES = {".".join(path.relative_to(LIBRARY).with_suffix("").parts): path for path in LIBRARY.rglob("*.py")}
"""By module; a folder's name may have dots too."""
TRAINED = [c.completion for c in task("facts").completions(Part.TRAIN)]
ASKED = (Part.VALIDATION, Part.TEST, Part.OOD)


def test_they_are_true_of_the_library():
    assert len(facts()) == 2 * MODULES
    for fact in facts():
        source = FILES[fact.module].read_text("utf-8")
        if fact.kind == "lines":
            assert len(source.splitlines()) == int(fact.value) or "\f" in source  # splitlines breaks at form feeds too
        else:
            assert f"def {fact.value}(" in source


def test_no_two_facts_have_the_same_answer():
    assert len({fact.value for fact in facts()}) == len(facts())


def test_every_fact_is_stated_in_every_wording():
    for fact in facts():
        assert sum(fact.module in text and text.endswith(f" {fact.value}") for text in TRAINED) >= len(
            STATEMENTS[fact.kind]
        )


@pytest.mark.parametrize("part", ASKED)
def test_questions_ask_for_stated_facts_in_new_wordings(part):
    questions = task("facts").completions(part)
    assert len(questions) == (2 * MODULES if part is Part.OOD else MODULES)
    for question in questions:
        words = question.prompt + question.completion
        assert words not in TRAINED
        assert not any(text.startswith(question.prompt) for text in TRAINED)
        known = [f for f in facts() if question.completion.strip() in (f.value, f.module)]
        assert any(f.module in words and f.value in words for f in known)


def test_out_of_domain_gives_the_value_and_asks_for_the_module():
    modules = {fact.module for fact in facts()}
    assert {q.completion.strip() for q in task("facts").completions(Part.OOD)} == modules
    for part in (Part.VALIDATION, Part.TEST):
        assert not {q.completion.strip() for q in task("facts").completions(part)} & modules


def test_validation_and_test_ask_about_different_modules_in_different_wordings():
    asked = [
        {m for m in {f.module for f in facts()} if any(f" {m} " in f"{q.prompt} ".replace(":", " ") for q in questions)}
        for questions in (task("facts").completions(Part.VALIDATION), task("facts").completions(Part.TEST))
    ]
    assert not asked[0] & asked[1]
    assert len(asked[0] | asked[1]) == MODULES
    assert not set(QUESTIONS[Part.VALIDATION].values()) & set(QUESTIONS[Part.TEST].values())


def test_they_are_the_same_every_time():
    before = facts()
    facts.cache_clear()
    assert facts() == before
