"""The page of findings: its numbers about our own contests are those of the published verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.interpolate import CubicSpline

ROOT = Path(__file__).parent.parent
WORDS = " ".join((ROOT / "docs" / "findings.md").read_text().split())
VERDICTS = {
    name: json.loads((ROOT / "results" / name / "verdict.json").read_text()) for name in ("breadth-1", "rerun-1")
}
BOARD = VERDICTS["breadth-1"]["boards"][0]
ROWS = {row["name"]: row for row in BOARD["contestants"]}
LORA = ROWS["lora"]["gain"]["mean"]


def interval(effect) -> str:
    return f"{effect['mean']:+.3f}, {effect['low']:.3f} to {effect['high']:+.3f}"


def test_it_has_the_thesis_after_the_contests():
    thesis = VERDICTS["breadth-1"]["theses"]["Natural Manifold"]["bayes"]
    assert f"our contests to {thesis['after']:.2f}" in WORDS
    full = next(at for at in VERDICTS["breadth-1"]["by_relevance"] if at["relevance"] == 1.0)
    assert f"it would be {full['Natural Manifold']:.2f}" in WORDS


def test_nobody_is_told_apart_from_lora_for_the_better():
    others = [row for name, row in ROWS.items() if row["ranked"] and name != "lora"]
    assert f"Of {len(others)} others" in WORDS
    assert not [row for row in others if row["versus_reference"]["mean"] > 0 and row["p_holm"] < 0.05]
    bound = max(row["versus_reference"]["high"] for row in others) / LORA
    assert f"the best is {100 * bound:.0f} % of what LoRA learns" in WORDS


@pytest.mark.parametrize("name", ["dora", "xlora"])
def test_what_is_level_with_lora_is_level(name):
    effect = ROWS[name]["versus_reference"]
    assert interval(effect) in WORDS
    assert -0.005 < effect["low"] < effect["high"] < 0.0055


def test_the_small_ones_keep_the_share_that_it_says():
    for name, said in (
        ("lora-rank-1", "LoRA of rank one keeps {} %"),
        ("vera", "VeRA {} %"),
        ("prompt", "prompts {} %"),
    ):
        assert said.format(round(100 * ROWS[name]["gain"]["mean"] / LORA)) in WORDS
    small = [
        row for row in ROWS.values() if row["ranked"] and row["parameters"] <= 1.05 * ROWS["lora-rank-1"]["parameters"]
    ]
    assert max(small, key=lambda row: row["gain"]["mean"])["name"] == "lora-rank-1"
    for pair in (("ssvd", "ssvd-free"), ("vera", "vera-unshared")):
        first, second = (ROWS[name]["gain"]["mean"] for name in pair)
        assert abs(first - second) < 0.001


def test_equal_learning_turns_with_the_way_back():
    found = {name: at["forgetting"] for name, at in BOARD["at_equal_learning"].items() if ROWS[name]["ranked"]}
    strength, training = ([at[way] for at in found.values() if at.get(way)] for way in ("strength", "training"))
    worse, better = sum(at["high"] < 0 for at in strength), sum(at["low"] > 0 for at in training)
    assert f"LoRA forgets less than {worse} of {len(strength)} others, more than none" in WORDS
    assert f"it forgets more than {better} of {len(training)}, less than none" in WORDS
    assert not any(at["low"] > 0 for at in strength)
    assert not any(at["high"] < 0 for at in training)


def test_the_claims_that_are_resolved():
    claims = VERDICTS["breadth-1"]["claims"]
    resolved = [claim["resolved"] for claim in claims if claim.get("resolved") is not None]
    assert f"resolves {len(resolved)} claims" in WORDS
    assert f": {resolved.count(False)} are false" in WORDS
    assert VERDICTS["breadth-1"]["lock"]["changed"] == VERDICTS["rerun-1"]["lock"]["changed"] == []


def test_the_rates_of_the_findings_that_were_run_again():
    claims = {claim["claim"]: claim for claim in VERDICTS["rerun-1"]["claims"]}
    for title, times, said in (
        ("Ten Times Full Tuning", 10, "{:.1f} times ({:.1f} to {:.0f})"),
        ("Rank Leaves The Rate", 1, "{:.1f} times from rank 2 to 32 ({:.2f} to {:.1f})"),
    ):
        effect = claims[title]["effect"] if "effect" in claims[title] else claims[title]["parts"][0]["effect"]
        assert said.format(*(times * 10 ** effect[key] for key in ("mean", "low", "high"))) in WORDS


def paths(table, name):
    """By task and seed, a contestant's gain and forgetting at strengths 0, 0.5 and 1, on the rows of the strength path."""
    frozen = {r.task: dict(json.loads(r.path))[0.0] for r in table[table["contestant"] == "frozen"].itertuples()}
    found = {}
    for run in table[(table["round"] == "report") & (table["contestant"] == name)].itertuples():
        path, base = dict(json.loads(run.path)), frozen[run.task]
        at = [path[strength] for strength in (0.5, 1.0)]
        gains = [0.0, *(base["test"][0] - each["test"][0] for each in at)]
        found[run.task, run.seed] = gains, [0.0, *(each["base"][0] - base["base"][0] for each in at)]
    return found


def turned_down(found, goals):
    """Mean forgetting where each path first has a gain; NaN if one of them never has."""
    strengths, values = np.linspace(0, 1, 2001), []
    for (task, _), (gains, rises) in found.items():
        gain, rise = (CubicSpline([0.0, 0.5, 1.0], numbers)(strengths) for numbers in (gains, rises))
        values.append(rise[np.argmax(gain >= goals[task])] if gain.max() >= goals[task] else np.nan)
    return np.mean(values)


def test_what_a_lower_strength_keeps_and_forgets():
    """Recomputed from the table of trials with pandas and scipy."""
    table = pd.read_parquet(ROOT / "results" / "breadth-1" / "trials.parquet")
    lora = paths(table, "lora")
    gains, rises = (np.mean([run[i] for run in lora.values()], axis=0) for i in (0, 1))
    assert f"keeps {gains[1]:.3f} of a gain of {gains[2]:.3f} and {rises[1]:.3f} of a rise of {rises[2]:.3f}" in WORDS
    goals = {task: np.mean([run[0][2] for (where, _), run in lora.items() if where == task]) / 2 for task, _ in lora}
    scored = [name for name in ROWS if name not in ("frozen", "prompt", "trainable_tokens")]
    found = {name: turned_down(paths(table, name), goals) for name in scored}
    found = {name: rise for name, rise in found.items() if np.isfinite(rise)}
    assert f"With all {len(found)} that learn enough" in WORDS
    assert {round(found[name], 3) for name in ("lora", "full_ft", "dora", "loha", "xlora", "adalora")} == {0.001, 0.002}
    for name, title in (("oft", "OFT"), ("pissa", "PiSSA"), ("hra", "HRA"), ("vera", "VeRA")):
        assert f"{title} {found[name]:.3f}" in WORDS
    assert found["lora"] == min(rise for name, rise in found.items() if name != "full_ft")
