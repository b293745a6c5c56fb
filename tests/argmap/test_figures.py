"""Every figure of the built-in map stands in a source that the claim names; what follows from data is computed again."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from functools import cache
from typing import Any

import numpy as np
import pytest

from adapterlab import argmap
from tests.argmap.reference import corpus

SOURCES = corpus.ROOT.parent / "shared" / "sources"
pytestmark = pytest.mark.skipif(not SOURCES.is_dir(), reason="the papers (../shared) are not here")
BUILT_IN = argmap.load(corpus.BUILT_IN)
NAMES = {
    "AdaLoRA": "adalora", "AntiPaSTO": "antipasto", "Biderman": "biderman", "BOFT": "boft", "C3A": "c3a", "CLOVER": "clover",
    "DeLoRA": "delora", "DoRA": "dora", "ETHER": "ether", "FourierFT": "fourierft", "GOFT": "goft", "HRA": "hra",
    "IA3": "ia3", "FedPara": "loha", "LyCORIS": "lokr", "LoRA,": "lora_", "MiSS": "miss", "OFT,": "oft_", "OFTv2": "oftv2",
    "PiSSA": "pissa", "PSOFT": "psoft", "RandLoRA": "randlora", "ReFT": "reft", "RoAd": "road", "SHiRA": "shira",
    "SSVD": "ssvd", "SVFT": "svft", "VB-LoRA": "vblora", "VeRA": "vera",
}  # fmt: skip
"""By name in the map, the start of the paper's file name."""
NOT_HERE = {"2312.11420", "2104.08691"}
"""Papers of which the sources have no text: the figures of these claims are not checked."""
COMPUTED = {
    "PiSSA Beats LoRA": ("0.6", "3.3", "4.1"),
    "Random Init Wastes Steps": ("0.1",),
    "Basis Matters More Than Rank": ("0.6", "2.2", "0.1"),
    "DoRA Beats LoRA": ("0.02",),
    "DoRA Takes More Rates": ("0.61", "0.59"),
    "Reflections Are Both": ("2.8",),
    "IA3 Reaches Most": ("63.3",),
    "More Rank Helps Little": ("0.006", "0.027"),
}
"""Figures that follow from a table and do not stand in it; the tests below compute them."""
NEAR = 12
"""Lines within which figures of one claim stand in a paper; a line of these texts is often several rows of a table."""
FIGURE = re.compile(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)")


@cache
def figures_of(name: str) -> tuple[np.ndarray, np.ndarray]:
    """All numbers in a paper's text, shares in percent too, and their lines; some have a space at the decimal point."""
    (path,) = SOURCES.glob(f"papers/{name}*.md")
    numbers, lines = [], []
    for line, text in enumerate(path.read_text("utf-8").splitlines()):
        joined = re.sub(r"(\d) ?\. ?(\d)", r"\1.\2", text)
        found = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", joined)]
        found += [100 * float(number) for number in re.findall(r"(?<!\d)0\.\d{4}(?!\d)", joined)]
        numbers += found
        lines += [line] * len(found)
    return np.array(numbers), np.array(lines)


def places(figure: str, name: str) -> np.ndarray:
    """Lines of a paper in which a figure stands, rounded as the map rounds it."""
    numbers, lines = figures_of(name)
    return np.unique(lines[equal(numbers, figure)])


def equal(numbers: np.ndarray, figure: str) -> np.ndarray:
    return np.abs(numbers - float(figure)) <= 0.5 * 10 ** -len(figure.partition(".")[2]) + 1e-9


@cache
def measured() -> np.ndarray:
    """All numbers of the PEFT library's benchmark (scores in percent too), of PEFT-Arena, and of the survey."""
    found = []
    for run in runs():
        final = [value for value in run["final"].values() if isinstance(value, float)]
        found += [*final, *(100 * value for value in final), run["trainable_params"] / 1e6]
    for name in ("peft-arena.csv", "adapters_as_hypotheses.md"):
        found += [float(number) for number in re.findall(r"\d+(?:\.\d+)?", (SOURCES / name).read_text("utf-8"))]
    return np.array(found)


def runs() -> list[dict[str, Any]]:
    """The runs of the PEFT library's benchmark."""
    return [json.loads(line) for line in (SOURCES / "peft-metamathqa.jsonl").read_text("utf-8").splitlines()]


def said(title: str) -> str:
    claim = BUILT_IN.claims[title]
    return f"{claim.text} {claim.data.get('reason', '')}"


PREMISES = [title for title, claim in BUILT_IN.claims.items() if claim.role == "premise"]


@pytest.mark.parametrize("title", PREMISES)
def test_each_figure_stands_in_a_source_that_the_claim_names(title: str) -> None:
    claim = BUILT_IN.claims[title]
    links = " ".join(f"{name} {url}" for mention in claim.mentions for name, url in mention.links)
    if any(number in links for number in NOT_HERE):
        pytest.skip("the paper is not among the sources")
    named = {file for name, file in NAMES.items() if name.rstrip(",") in f"{said(title)} {links}"}
    figures = [figure for figure in FIGURE.findall(said(title)) if figure not in COMPUTED.get(title, ())]
    elsewhere = [figure for figure in figures if not equal(measured(), figure).any()]
    missing = [figure for figure in elsewhere if not any(stands(figure, figures, name) for name in named)]
    assert missing == []


def stands(figure: str, figures: list[str], name: str) -> bool:
    """True if a figure stands in a paper near another one of the claim: one number alone is in every long table."""
    here = places(figure, name)
    others = [line for other in {*figures} - {figure} for line in places(other, name)]
    if not len(here) or len({*figures}) == 1:
        return bool(len(here))
    return bool(others) and bool(np.abs(here[:, None] - np.array(others)[None, :]).min() <= NEAR)


@cache
def swept() -> dict[tuple[str, ...], dict[str, dict[float, float]]]:
    """By model, task, rank and batch: by method, the score at each rate."""
    found: dict[tuple[str, ...], dict[str, dict[float, float]]] = defaultdict(lambda: defaultdict(dict))
    with (SOURCES / "lr-matters.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            cell = row["model"], row["task"], row["rank"], row["batch"]
            found[cell][row["method"]][float(row["learning_rate"])] = float(row["accuracy_mean"])
    return found


def tuned(method: str) -> np.ndarray:
    """By cell, the best score of a method less that of LoRA."""
    return np.array([max(cell[method].values()) - max(cell["LoRA"].values()) for cell in swept().values()])


@pytest.mark.parametrize(("method", "mean", "ahead"), [("PiSSA", -0.6, 4), ("DoRA", 0.02, 10), ("Init[AB]", 0.1, 10)])
def test_with_both_rates_swept(method: str, mean: float, ahead: int) -> None:
    assert len(tuned(method)) == 19
    assert tuned(method).mean() == pytest.approx(mean, abs=0.006)
    assert (tuned(method) > 0).sum() == ahead


def test_pissa_at_one_rate_for_both() -> None:
    at_loras, low = [], []
    for cell in swept().values():
        best = max(cell["LoRA"], key=cell["LoRA"].__getitem__)
        at_loras.append(cell["PiSSA"][best] - cell["LoRA"][best])
        low.append(cell["PiSSA"][2e-5] - cell["LoRA"][2e-5])
    assert np.mean(at_loras) == pytest.approx(-3.3, abs=0.05)
    assert np.mean(low) == pytest.approx(4.1, abs=0.05)


def width(method: str) -> float:
    """Mean over the cells of the decades of rates within two points of the best."""
    widths = []
    for cell in swept().values():
        good = [rate for rate, score in cell[method].items() if score >= max(cell[method].values()) - 2]
        widths.append(np.log10(max(good) / min(good)))
    return float(np.mean(widths))


def test_dora_works_at_no_more_rates_than_lora() -> None:
    assert (width("LoRA"), width("DoRA")) == pytest.approx((0.59, 0.61), abs=0.006)


def test_the_mean_of_full_fine_tuning_over_eleven_tasks() -> None:
    """The spread stands right behind each number of IA3's table 4: `81 .011 .0` is 81.0 and 11.0."""
    scores = ("81 .0", "46 .4", "93 .8", "56 .5", "65 .4", "57 .7", "79 .8", "87 .5", "46 .6", "41 .3", "40 .2")
    (path,) = SOURCES.glob("papers/ia3*.md")
    rows = [line for line in path.read_text("utf-8").splitlines() if "Full Model Fine-tuning 3B" in line][:3]
    assert all(any(score in row for row in rows) for score in scores)
    assert np.mean([float(score.replace(" ", "")) for score in scores]) == pytest.approx(63.3, abs=0.05)


def test_the_share_of_humaneval_in_what_hra_keeps() -> None:
    base, with_hra, with_lora = 12.8, 13.41, 11.59
    assert {base, with_hra, with_lora} <= set(figures_of("hra")[0])
    assert 100 * (with_hra - with_lora) / base / 5 == pytest.approx(2.8, abs=0.05)


def test_randlora_against_lora() -> None:
    clip, _ = figures_of("randlora")
    assert (85.98 in clip, 83.74 in clip) == (True, True)
    assert round(85.98 - 83.74, 1) == 2.2
    score = {run["experiment"]: 100 * run["final"]["test accuracy"] for run in runs()}
    ahead = score["randlora/llama-3.2-3B-default"] - score["lora/llama-3.2-3B-rank32"]
    assert ahead == pytest.approx(-0.1, abs=0.05)


def test_the_slope_of_the_loss_over_the_rank() -> None:
    """By model, the best loss at each rank over its rates, and the least-squares line over the logarithm of the rank."""
    losses: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    with (SOURCES / "tinker-lora-sweep.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            losses[row["model"]][int(row["lora_rank"])].append(float(row["test_nll_per_token"]))
    slopes = [
        np.polyfit(np.log10(list(ranks)), [min(found) for found in ranks.values()], 1)[0] for ranks in losses.values()
    ]
    assert len(slopes) == 35
    assert np.mean(slopes) == pytest.approx(-0.006, abs=0.0005)
    assert min(slopes) == pytest.approx(-0.027, abs=0.0005)
    assert max(slopes) < 0
    assert not any({1, 128} <= ranks.keys() for ranks in losses.values())
