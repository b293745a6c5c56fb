"""The numbers of `predicted:`: their check against the relation's sign, their sample sizes, and writing them back."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from adapterlab import argmap
from adapterlab.argmap.lint.checks import check
from adapterlab.argmap.scoring.uncertainty import intervals
from adapterlab.argmap.tools.edit import with_credences
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.resources import shipped

STEP = """[Wet]: It is wet. {reason: r, prior: 0.3}

<Clouds>

(1) [Dark]: It is dark. {reason: r, predicted: RATES, credence: 0.5}
----
(2) [Rainy]: It rains. {reason: r, inference: 0.5, predicted: [0.8, 0.2]}
  +> [Wet]
"""


def a_map(sign: str, rates: str, more: str = "") -> argmap.Map:
    return argmap.parse(
        f"[Wet]: w {{reason: r, prior: 0.3}}\n\n[Rain]: r {{reason: r, predicted: {rates}, credence: 0.5{more}}}\n"
        f"  {sign} [Wet]\n"
    )


def codes(the_map: argmap.Map) -> list[str]:
    return [found.code for found in check(the_map) if found.code.startswith("predicted")]


@pytest.mark.parametrize(
    ("sign", "rates", "wrong"),
    [
        ("+>", "[0.8, 0.4]", False),
        ("+>", "[0.4, 0.8]", True),
        ("->", "[0.8, 0.4]", True),
        ("->", "[0.4, 0.8]", False),
        ("+>", "[0.4, 0.4]", False),
        ("->", "[0.4, 0.4]", False),
        ("><", "[0.0, 1.0]", False),
        ("><", "[1.0, 0.0]", True),
        ("+>", '{"Wet": [0.4, 0.8]}', True),
        ("+>", '{"[Wet]": [0.8, 0.4]}', False),
    ],
)
def test_numbers_that_contradict_the_sign_are_a_warning(sign, rates, wrong):
    assert codes(a_map(sign, rates)) == ["predicted-sign"] * wrong


def test_the_sign_decides_which_way_evidence_moves_the_thesis():
    """A supporter with the wrong sign lowers what it supports once it is found to hold."""
    wrong, right = a_map("+>", "[0.4, 0.8]"), a_map("+>", "[0.8, 0.4]")
    for the_map, up in ((right, True), (wrong, False)):
        high, low = (argmap.score(the_map, credences={"Rain": c}).claims["Wet"].credence for c in (0.9, 0.1))
        assert (high > low) == up


def test_premises_support_their_conclusion():
    assert codes(argmap.parse(STEP.replace("RATES", "[0.9, 0.3]"))) == []
    found = [f for f in check(argmap.parse(STEP.replace("RATES", "[0.3, 0.9]"))) if f.code == "predicted-sign"]
    assert [f.message for f in found] == [
        "[Dark] speaks for [Rainy], but is predicted to be less likely if that is true (0.3) than if it is false (0.9)"
    ]


def test_the_built_in_map_contradicts_itself_nowhere():
    assert codes(argmap.load(shipped("maps", "natural_manifold.argdown"))) == []


@pytest.mark.parametrize(
    ("rates", "more", "code", "message"),
    [
        ("[0.8]", "", "predicted", "predicted of [Rain] must be two probabilities"),
        ("[0.8, 1.4]", "", "predicted", "must be between 0 and 1, not 1.4"),
        ("[0.8, 0.4]", ", predicted_n: 0", "predicted", "predicted_n of [Rain] must be a positive number"),
        ("[0.8, 0.4]", ", predicted_n: [1, 2, 3]", "predicted", "must be a positive number, or two of them"),
        ('{"Wat": [0.8, 0.4]}', "", "predicted-title", "does not bear on Wat"),
        ("[0.8, 0.4]", ', predicted_n: {"Wat": 3}', "predicted-title", "(predicted_n), but does not bear on Wat"),
    ],
)
def test_other_mistakes_are_found_too(rates, more, code, message):
    (found,) = [f for f in check(a_map("+>", rates, more)) if f.code.startswith("predicted")]
    assert found.code == code
    assert message in found.message


def test_a_sample_size_of_its_own_narrows_the_interval():
    """Rain's base rate is that of the two numbers; without evidence its interval is that of their mixture."""
    text = "[Wet]: w {prior: 0.5}\n\n[Rain]: r {predicted: [0.8, 0.4]MORE}\n  +> [Wet]\n"
    wide, narrow, mixed = (
        intervals(argmap.parse(text.replace("MORE", more)))["Rain"]
        for more in ("", ", predicted_n: 1000000", ", predicted_n: [1000000, 10]")
    )
    rng = np.random.default_rng(0)
    prior = rng.beta(5, 5, 200_000)
    for found, true, false in (
        (wide, stats.beta(8, 2), stats.beta(4, 6)),
        (narrow, stats.norm(0.8, 1e-9), stats.norm(0.4, 1e-9)),
        (mixed, stats.norm(0.8, 1e-9), stats.beta(4, 6)),
    ):
        draws = prior * true.rvs(len(prior), random_state=rng) + (1 - prior) * false.rvs(len(prior), random_state=rng)
        assert (found.low, found.high) == pytest.approx(np.quantile(draws, [0.05, 0.95]), abs=0.01)
    of_one = text.replace("[0.8, 0.4]MORE", '{"Wet": [0.8, 0.4]}, predicted_n: {"Wet": 1000000}')
    assert intervals(argmap.parse(of_one))["Rain"] == pytest.approx(narrow, abs=1e-6)


def test_what_is_predicted_is_written_and_all_other_bytes_stay():
    text = '[Wet]: w {prior: 0.5}\n\n[Rain]: r {reason: "0.8, 0.4",\n  predicted: [0.80, 0.4],  credence: 0.5}\n  +> [Wet]\n'
    assert with_credences(text, {"[Rain] if [Wet]": 0.9}) == text.replace("[0.80,", "[0.90,")
    assert with_credences(text, {"Rain if not Wet": 0.25}) == text.replace(", 0.4]", ", 0.25]")
    both = with_credences(text, {"[Rain] if [Wet]": 0.9, "[Rain] if not [Wet]": 0.1, "Rain": 0.7})
    assert argmap.parse(both).claims["Rain"].data["predicted"] == [0.9, 0.1]
    assert argmap.parse(both).claims["Rain"].credence == 0.7
    by_title = text.replace("[0.80, 0.4]", '{"Wet": [0.8, 0.4]}')
    assert with_credences(by_title, {"[Rain] if not [Wet]": 0.3}) == by_title.replace("0.4]}", "0.3]}")


def test_what_is_not_stated_cannot_be_written():
    with pytest.raises(AdapterlabError, match=r"has no predicted to replace; write \{predicted: \[0.8, 0.4\]\} first"):
        with_credences("[Wet]: w\n  + [Rain]: r {credence: 0.5}", {"[Rain] if [Wet]": 0.9})
    with pytest.raises(AdapterlabError, match="unknown claim or argument"):
        with_credences("[Wet]: w\n  + [Rain]: r {predicted: [0.8, 0.4]}", {"[Rain] if [Wat]": 0.9})


def test_what_if_writes_them(tmp_path):
    file = tmp_path / "m.argdown"
    file.write_text(a_map("+>", "[0.8, 0.4]").source.text)
    result = CliRunner().invoke(app, ["map", "what-if", str(file), "--set", "[Rain] if [Wet]=0.95", "--write"])
    assert result.exit_code == 0, result.output
    assert file.read_text() == a_map("+>", "[0.95, 0.4]").source.text
