"""What is said of a contest: the winner, its lead, its costs, and what went wrong on the way."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from adapterlab.lab.analysis.board import Board
from adapterlab.lab.analysis.effects import Sources
from adapterlab.lab.analysis.metrics import Results
from adapterlab.lab.run.contest import make_contests
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Contestant, Reporting, Study
from adapterlab.lab.trial.spec import FROZEN, Outcome
from adapterlab.tuning.advice import advise, more_time
from adapterlab.tuning.show import ranking
from tests.adapters.methods import small
from tests.lab.made_up import analysed

SEEDS = (1, 2, 3, 4)
NOISE = (0.0, 0.01, -0.01, 0.005)


def results_of(
    losses: dict[str, float],
    ood: bool = True,
    notes: dict[str, str] | None = None,
    budget: int | None = None,
    sizes: dict[str, int] | None = None,
) -> Results:
    """Finished contests: the untrained model at 2.0, each contestant near its loss and of size 1,000 or its own."""
    names = list(losses)
    study = Study(
        name="made",
        tasks=("prose",),
        reference=names[0],
        budget=budget,
        contestants=tuple(Contestant(adapter=name) for name in names),
        full_ft=False,
        full_ft_reason="not asked",
        report=Reporting(seeds=SEEDS),
    )
    contests = make_contests(resolve(study), {name: small(name) for name in names})
    for contest in contests:
        if contest.contestant == FROZEN:
            runs = {0: (2.0, 0)}
        else:
            contest.rate = 0.001
            runs = {seed: (losses[contest.contestant] + noise, 60) for seed, noise in zip(SEEDS, NOISE, strict=True)}
        for seed, (loss, steps) in runs.items():
            trial = contest.trial(0.001, seed, steps, reported=True)
            parts = dict.fromkeys(("validation", "test", "ood"), (loss, 0.5)) | {"base": (1.0 + 0.1 * bool(steps), 0.5)}
            note = (notes or {}).get(contest.contestant, "")
            outcome = Outcome(
                "ok",
                parts,
                (),
                (sizes or {}).get(contest.contestant, 1000),
                0.01 * steps * len(contest.contestant),
                0.0,
                note,
                (),
                5_000_000,
                8,
            )
            contest.reported[seed] = trial, outcome
            if steps:
                contest.first[0.001] = contest.second[0.001] = (trial, outcome)
        contest.finished = True
    return Results.of(contests)


def board_of(results: Results) -> Board:
    return analysed(results).main


def said(results: Results) -> str:
    return advise(board_of(results))


def test_a_winner_above_the_budget_is_said_to_be():
    losses, sizes = {"lora": 1.5, "dora": 1.2, "pissa": 1.3}, {"dora": 2500}
    assert "more than" not in said(results_of(losses, sizes=sizes, budget=2500))
    text = said(results_of(losses, sizes=sizes, budget=2000))
    assert "It trains 2.5k parameters, more than the 2.0k asked for; the best within that is pissa, at 0.001." in text
    assert "asked for, as all do." in said(results_of(losses, sizes=sizes, budget=900))


def test_a_real_lead_is_called_real():
    text = said(results_of({"lora": 1.5, "dora": 1.2}))
    assert text.startswith("Take dora at a learning rate of 0.001: 0.799 nats per byte better than the untrained model")
    assert "Its lead over lora is real" in text
    assert "A step takes 40 ms and 5 MB beyond the model; it forgets 0.100 nats per byte" in text


def test_a_lead_within_the_noise_is_not():
    assert "It cannot be told from" in said(results_of({"lora": 1.2, "dora": 1.2}))


def test_a_slower_winner_says_so():
    assert "1.2 times that of lora" in said(results_of({"lora": 1.5, "pissa": 1.2}))


def test_where_nothing_was_learned_nothing_is_advised():
    assert said(results_of({"lora": 2.4, "dora": 2.5})).startswith("No adapter learned anything here")


def test_what_went_wrong_is_counted():
    note = "out of memory with 8 examples at a time: continued with 4"
    assert board_of(results_of({"lora": 1.5, "dora": 1.2}, notes={"dora": note})).incidents == (
        f"dora: {note} (6 trials)",
    )
    assert board_of(results_of({"lora": 1.5})).incidents == ()


@pytest.mark.parametrize("name", ["lora", "trainable_tokens"])
def test_the_board_fits_80_columns(name):
    results = results_of({name: 1.5, "dora": 1.2})
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(ranking(board_of(results)))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert not any("\u2026" in line for line in lines)
    assert lines[1].split()[:2] == ["1", "dora"]


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (Sources(seeds=9e-6, search=1e-6, rows=1e-6), None),
        (Sources(seeds=1e-6, search=9e-6, rows=2e-6), "The choice of the learning rates makes 75% of its variance"),
        (Sources(seeds=1e-6, search=2e-6, rows=9e-6), "test rows makes 75% of its variance: more rows would help more"),
    ],
)
def test_more_time_names_what_limits_the_comparison(sources, words):
    board = replace(board_of(results_of({"lora": 1.5, "oft": 1.4})), sources=sources)
    (sentence,) = more_time(board)
    assert f"±{1.96 * sources.error:.2g} nats per byte with 4 seeds" in sentence
    assert words in sentence if words else "variance" not in sentence
