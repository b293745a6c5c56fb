"""The built-in map, and the numbers that the documents give for it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
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
    for part in BUILT_IN.tests[title].get("all", [BUILT_IN.tests[title]]):
        names_a_contest(part)


def names_a_contest(test: dict[str, Any]) -> None:
    assert set(test["on"]) <= TASKS
    assert test["on"]
    if "reverses" in test:
        assert test["reverses"] in ADAPTERS
        return
    assert test["in"] in METRICS
    pairs = {"better": "than", "controlled": "against", "reaches": "of", "equivalent": "to", "trend": "minus"}
    (form,) = pairs.keys() & test.keys()
    names = {test.get(pairs[form]), test["who"] if form == "reaches" else test[form]} - {None}
    assert len(names) == (1 if form == "trend" and "minus" not in test else 2)
    assert {name.partition("(")[0] for name in names} <= ADAPTERS
    if form == "reaches":
        assert 0 < test["reaches"] <= 1
    if form == "equivalent":
        assert test["within"] > 0


def test_every_theme_can_be_tested_by_the_quick_study() -> None:
    quick = {"lora", "pissa", "oft", "dora", "ia3", "vera", "full_ft"}
    testable = set()
    for title, test in BUILT_IN.tests.items():
        names = {test[key] for key in ("better", "than", "who", "of", "equivalent", "to") if key in test} or {"none"}
        if names <= quick and {"restyle", "prose"} & set(test.get("on", [])):
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
    names = ("bayes", "quadratic-energy", "df-quad")
    thesis = {name: argmap.score(BUILT_IN, name).claims["Natural Manifold"].credence for name in names}
    assert thesis == pytest.approx({"bayes": 0.27, "quadratic-energy": 0.71, "df-quad": 0.35}, abs=5e-3)
    assert all(f"{value:.2f}" in DOCS for value in thesis.values())
    assert argmap.score(BUILT_IN).semantics == "bayes"
    assert f"{len(BUILT_IN.tests)} claims" in DOCS


def test_numbers_that_are_shuffled_between_claims_are_worth_nothing() -> None:
    """The thesis then stands at its prior, so where it stands says something of the evidence and not of the map's shape."""
    titles = [title for title, claim in BUILT_IN.claims.items() if claim.credence is not None]
    numbers = [BUILT_IN.claims[title].credence for title in titles]
    rng = np.random.default_rng(0)
    shuffled = [
        argmap.score(BUILT_IN, credences=dict(zip(titles, rng.permutation(numbers), strict=True)))
        .claims["Natural Manifold"]
        .credence
        for _ in range(200)
    ]
    assert np.median(shuffled) == pytest.approx(0.3, abs=0.05)
    assert np.quantile(shuffled, 0.95) - np.quantile(shuffled, 0.05) > 0.02


@pytest.mark.parametrize(("credence", "low", "high"), [(0.1, 0.1, 0.2), (0.5, 0.25, 0.35), (0.9, 0.4, 0.55)])
def test_the_thesis_goes_where_all_credences_go(credence: float, low: float, high: float) -> None:
    every = {title: credence for title, claim in BUILT_IN.claims.items() if claim.credence is not None}
    assert low < argmap.score(BUILT_IN, credences=every).claims["Natural Manifold"].credence < high
