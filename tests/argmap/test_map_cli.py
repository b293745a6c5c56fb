"""The command line: `adapterlab map`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapterlab.argmap.cli import app
from adapterlab.errors import AdapterlabError
from tests.argmap.reference import corpus

MAP = """[T]: thesis

<A>

(1) [P]: premise #observation [paper](https://example.org/p) {reason: "r", credence: 0.8}
----
(2) [C]: conclusion {reason: "r", inference: 0.5}
  +> [T]
"""


def run(*arguments: object) -> tuple[int, str]:
    outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(outcome.exception, AdapterlabError):
        raise outcome.exception
    return outcome.exit_code, outcome.stdout


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "map.argdown"
    path.write_text(MAP)
    return path


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.argdown"
    path.write_text(MAP + "\n[B] is so\n")
    return path


def test_check_exits_0_on_a_sound_map_and_1_on_errors(sound: Path, broken: Path) -> None:
    assert run("check", sound)[0] == 0
    code, shown = run("check", broken)
    assert code == 1
    assert "broken.argdown:10:5: error" in shown
    code, shown = run("check", broken, "--json")
    assert code == 1
    assert [d["line"] for d in json.loads(shown)["diagnostics"]] == [10]


def test_check_accepts_a_map_without_numbers_unless_strict(tmp_path: Path) -> None:
    path = tmp_path / "words.argdown"
    path.write_text("[Wet]: The street is wet.\n  + [Rain]: It rains.\n")
    code, shown = run("check", path)
    assert (code, "--strict" in shown) == (0, True)
    code, shown = run("check", path, "--strict")
    assert code == 1
    assert "[Rain] has no credence" in shown


def test_score_prints_the_specified_json(sound: Path) -> None:
    found = json.loads(run("score", sound, "--json", "--semantics", "df-quad")[1])
    assert found["semantics"] == "df-quad"
    assert found["claims"]["P"] == pytest.approx(
        {"credence": 0.8, "log_odds": 1.3863, "stated": 0.8, "role": "premise"}, abs=1e-4
    )
    assert found["claims"]["T"] == pytest.approx(
        {"credence": 0.7, "log_odds": 0.8473, "stated": None, "role": "thesis"}, abs=1e-4
    )
    assert found["arguments"]["A"]["strength"] == pytest.approx(0.4)


def test_a_broken_map_is_scored_only_when_asked(broken: Path) -> None:
    with pytest.raises(AdapterlabError, match="has 1 error"):
        run("score", broken)
    assert json.loads(run("score", broken, "--skip-broken", "--json")[1])["claims"]["T"]["credence"] > 0.5


def test_score_with_intervals(sound: Path) -> None:
    low, high = json.loads(run("score", sound, "--json", "--interval")[1])["claims"]["T"]["interval"]
    assert 0.5 < low < high < 0.7


def test_crux_names_the_numbers(sound: Path) -> None:
    found = json.loads(run("crux", sound, "--json")[1])
    assert found["thesis"] == "T"
    assert {c["name"] for c in found["cruxes"]} == {"[P]", "<A>"}
    assert "[P]" in run("crux", sound, "--thesis", "[T]")[1]


def test_what_if_and_writing_the_number(sound: Path) -> None:
    assert "0.800 -> 0.300" in run("what-if", sound, "--set", "[P]=0.3")[1]
    assert sound.read_text() == MAP
    run("what-if", sound, "--set", "[P]=0.3", "--set", "<A>=0.9", "--write")
    assert sound.read_text() == MAP.replace("credence: 0.8", "credence: 0.3").replace(
        "inference: 0.5", "inference: 0.9"
    )


@pytest.mark.parametrize("item", ["P", "P=", "P=x", "P=2", "Q=0.5"])
def test_what_if_refuses_invalid_numbers_and_titles(sound: Path, item: str) -> None:
    with pytest.raises(AdapterlabError):
        run("what-if", sound, "--set", item)


def test_diff_render_and_fmt(sound: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.argdown"
    other.write_text(MAP.replace("0.8", "0.6") + "\n\n\n")
    assert "number    [P] credence: 0.8 -> 0.6" in run("diff", sound, other)[1]
    for suffix, beginning in (("html", "<!doctype html>"), ("svg", "<svg"), ("dot", "digraph")):
        out = tmp_path / f"out.{suffix}"
        assert run("render", sound, "--out", out)[0] == 0
        assert out.read_text().startswith(beginning)
    with pytest.raises(AdapterlabError, match=r"\.pdf"):
        run("render", sound, "--out", tmp_path / "out.pdf")
    assert run("fmt", other, "--check")[0] == 1
    assert run("fmt", other)[0] == 0
    assert other.read_text() == MAP.replace("0.8", "0.6")
    assert run("fmt", other, "--check")[0] == 0


def test_an_unknown_semantics_names_the_known(sound: Path) -> None:
    with pytest.raises(AdapterlabError, match="did you mean df-quad"):
        run("score", sound, "--semantics", "dfquad")


def test_the_built_in_map_is_sound_and_scores() -> None:
    code, shown = run("check", corpus.BUILT_IN)
    assert code == 0, shown
    for semantics in ("quadratic-energy", "df-quad", "log-odds"):
        assert run("score", corpus.BUILT_IN, "--semantics", semantics)[0] == 0


@pytest.mark.skipif(not corpus.SOURCES_MAP.exists(), reason="the sources (../shared) are not here")
def test_the_fixed_sources_map_scores_in_every_semantics(tmp_path: Path) -> None:
    path = tmp_path / "fixed.argdown"
    path.write_text(corpus.sources_map(fixed=True))
    for semantics in ("quadratic-energy", "df-quad", "log-odds"):
        found = json.loads(run("score", path, "--json", "--semantics", semantics)[1])
        assert 0.5 < found["claims"]["Natural Manifold"]["credence"] < 1
    assert run("check", corpus.SOURCES_MAP, "--links", "docs=papers")[0] == 1
