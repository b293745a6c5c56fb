"""The built-in map, and the numbers that the documents give for it."""

from __future__ import annotations

import re

import pytest

from adapterlab import argmap
from tests.argmap.reference import corpus

BUILT_IN = argmap.load(corpus.BUILT_IN)
DOCS = corpus.read(corpus.ROOT / "docs" / "argmap.md")

# The survey's catalogue, in its order; two of its entries name two methods each.
METHODS = [
    *("lora", "oft", "vera", "dora", "delora", "pissa", "svft", "ssvd", "ia3", "road", "antipasto", "adalora", "boft"),
    *("goft", "hra", "randlora", "fourierft", "c3a", "loha", "lokr", "miss", "vblora", "shira", "ln_tuning", "prompt"),
    *("prefix", "poly", "xlora", "ether", "oftv2", "bone", "trainable_tokens", "clover", "psoft", "reft"),
]
ADAPTERS = {*METHODS, "full_ft", "ether_plus", "ptuning_v2", "llama_adapter", "bitfit"}
METRICS = {"in_domain", "out_of_domain", "forgetting", "steps_to_reference", "learning_rate_width", "tenth_of_data"}
TASKS = {"restyle", "prose", "facts", "algorithm", "steer"}
THEMES = ["Singular basis", "Orthogonality", "Direction and size", "Gain", "Rank", "Function", "Shared structure"]


def test_it_has_one_thesis_and_the_seven_themes() -> None:
    assert BUILT_IN.theses == ["Natural Manifold"]
    assert [s.title for s in BUILT_IN.sections][: len(THEMES)] == THEMES


def test_every_method_of_the_survey_is_in_a_section() -> None:
    named = {name for section in BUILT_IN.sections for name in section.data.get("methods", [])}
    assert set(METHODS) <= named


def test_every_observation_has_a_link_and_no_claim_has_a_quote() -> None:
    for claim in BUILT_IN.claims.values():
        if claim.role == "premise":
            assert {"observation", "assumption"} & set(claim.tags), claim.title
        if "observation" in claim.tags:
            assert all(url.startswith("https://") for m in claim.mentions for _, url in m.links), claim.title
        assert not any(m.quotes for m in claim.mentions), claim.title


@pytest.mark.parametrize("title", BUILT_IN.tests)
def test_every_test_names_a_contest(title: str) -> None:
    test = BUILT_IN.tests[title]
    assert test["in"] in METRICS
    assert test["on"]
    assert set(test["on"]) <= TASKS
    pairs = {"better": "than", "reaches": "of", "equivalent": "to"}
    (form,) = pairs.keys() & test.keys()
    names = {test[pairs[form]], test["who"] if form == "reaches" else test[form]}
    assert len(names) == 2
    assert names <= ADAPTERS
    if form == "reaches":
        assert 0 < test["reaches"] <= 1
    if form == "equivalent":
        assert test["within"] > 0


def test_every_theme_can_be_tested_by_the_quick_study() -> None:
    quick = {"lora", "pissa", "oft", "dora", "ia3", "vera", "full_ft"}
    testable = set()
    for title, test in BUILT_IN.tests.items():
        names = {test[key] for key in ("better", "than", "who", "of", "equivalent", "to") if key in test}
        if names <= quick and {"restyle", "prose"} & set(test["on"]):
            testable.add(BUILT_IN.claims[title].section)
    themes = {section.id for section in BUILT_IN.sections[: len(THEMES)]}
    assert themes <= testable


def test_the_example_map_of_the_documents_has_the_scores_given_there() -> None:
    text = re.search(r"```argdown\n(.*?)```", DOCS, re.DOTALL)
    assert text is not None
    bridge = argmap.parse(text.group(1))
    assert bridge.diagnostics == []
    assert argmap.score(bridge).claims["Bridge Holds"].credence == pytest.approx(0.544, abs=5e-4)
    assert argmap.sensitivities(bridge, "Bridge Holds")["[Old Rivets]"] == pytest.approx(-0.259, abs=5e-4)


def test_the_built_in_map_has_the_scores_given_in_the_documents() -> None:
    thesis = {s: argmap.score(BUILT_IN, s).claims["Natural Manifold"].credence for s in ("quadratic-energy", "df-quad")}
    assert thesis == pytest.approx({"quadratic-energy": 0.82, "df-quad": 0.33}, abs=5e-3)
    assert f"{len(BUILT_IN.tests)} claims" in DOCS
