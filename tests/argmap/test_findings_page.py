"""The page about the literature has the numbers of the map."""

from __future__ import annotations

import re

import pytest

from adapterlab import argmap
from adapterlab.argmap.scoring.sensitivity import one_way_sensitivities
from adapterlab.argmap.scoring.uncertainty import intervals
from tests.argmap.reference import corpus

BUILT_IN = argmap.load(corpus.BUILT_IN)
PAGE = corpus.read(corpus.ROOT / "docs" / "findings.md")
WORDS = " ".join(PAGE.split())


def test_it_has_the_thesis_and_its_interval() -> None:
    prior, after = re.search(r"From a prior of ([\d.]+), the literature takes it to ([\d.]+)", WORDS).groups()
    assert float(prior) == BUILT_IN.claims["Natural Manifold"].prior
    assert f"{argmap.score(BUILT_IN).claims['Natural Manifold'].credence:.2f}" == after
    low, high = re.search(r"90 percent interval ([\d.]+) to ([\d.]+)", WORDS).groups()
    found = intervals(BUILT_IN)["Natural Manifold"]
    assert (f"{found.low:.2f}", f"{found.high:.2f}") == (low, high)
    premises = sum(claim.role == "premise" for claim in BUILT_IN.claims.values())
    assert f"{premises} claims" in WORDS


def test_it_names_the_three_claims_that_would_move_it_most() -> None:
    rows = re.findall(r"^\| \[(.+?)\].*\| ([\d.]+) \| ([\d.]+) \|$", PAGE, re.MULTILINE)
    premises = [f"[{title}]" for title, claim in BUILT_IN.claims.items() if claim.role == "premise"]
    found = [s for s in one_way_sensitivities(BUILT_IN, limit=None) if s.name in premises][:3]
    assert [f"[{title}]" for title, _, _ in rows] == [s.name for s in found]
    assert [(low, high) for _, low, high in rows] == [(f"{s.low:.2f}", f"{s.high:.2f}") for s in found]


@pytest.mark.parametrize(
    ("section", "shown"), [("Singular basis", "-0.02"), ("Orthogonality", "-0.00"), ("Direction and size", "-0.00")]
)
def test_the_share_of_each_theme(section: str, shown: str) -> None:
    scores = argmap.score(BUILT_IN)
    (own,) = [s.id for s in BUILT_IN.sections if s.title == section]
    silent = {
        title: scores.claims[title].base
        for title, claim in BUILT_IN.claims.items()
        if claim.section == own and claim.credence is not None
    }
    without = argmap.score(BUILT_IN, credences=silent).claims["Natural Manifold"].credence
    assert f"{scores.claims['Natural Manifold'].credence - without:.2f}" == shown
    title = {"Orthogonality": "Turning"}.get(section, section)
    assert f"**{title}** ({shown}" in PAGE
