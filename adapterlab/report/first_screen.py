"""Sentences of a report's first screen: how sure the answer is, what it cost, what was not tested, and the thesis.

>>> SEMANTICS["bayes"].split(",")[0]
'probability'
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from adapterlab.argmap.scoring.semantics import BAYES
from adapterlab.argmap.scoring.sensitivity import sensitivities
from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.board import Board
from adapterlab.lab.analysis.pairwise import SIGNIFICANT, listed
from adapterlab.report.counts import counted
from adapterlab.verdict.judge_map import Judgement
from adapterlab.verdict.study_analysis import Analysis

NAMED = 3
"""Claims that are named as those on which a thesis hangs."""
SEMANTICS = {
    "bayes": "probability, by Bayes' rule over the whole map with the numbers stated in it",
    "quadratic-energy": "strength between 0 and 1 by the quadratic-energy semantics, and no probability",
    "df-quad": "strength between 0 and 1 by the DF-QuAD semantics, and no probability",
    "log-odds": "strength between 0 and 1 by adding log-odds, and no probability",
}
"""Meaning of a headline number, by semantics."""


@dataclass(frozen=True)
class ThesisWords:
    """A thesis, in words before its number."""

    title: str
    text: str
    before: float
    after: float
    meaning: str
    """Meaning of the number."""
    hangs_on: tuple[str, ...]
    """Titles of the claims whose credences move it most."""
    in_full: float | None
    """Its credence if the results counted in full; None if the map is no Bayesian network."""


def how_sure(board: Board) -> str:
    """Return how sure the comparison with the reference is.

    Args:
        board: The main board.
    """
    compared = [row for row in board.scoreboard.ranked if row.versus is not None]
    if not compared:
        return "There is a single contestant: nothing is compared."
    apart = sum(row.p < SIGNIFICANT for row in compared)
    same = sum(row.same < SIGNIFICANT and row.p >= SIGNIFICANT for row in compared)
    correction = board.scoreboard.lead.correction
    said = [
        f"{apart} of {counted(len(compared), 'contestant')} {'differs' if apart == 1 else 'differ'} from "
        f"{board.scoreboard.reference} in what they learn (p below {SIGNIFICANT:g} after {correction}'s correction)"
    ]
    if same:
        said.append(
            f", {same} {'is' if same == 1 else 'are'} as good within {board.study.report.smallest:g} {board.unit}"
        )
    half = board.scoreboard.half_width
    end = f" 95 % intervals are about ±{half:.2g}." if math.isfinite(half) else ""
    seeds = counted(len(board.study.report.seeds), "seed")
    rest = "" if apart + same == len(compared) else "; the rest is open"
    return f"{''.join(said)}{rest}.{end} {seeds}, {counted(len(board.study.tasks), 'task')}."


def cost(analysis: Analysis) -> str:
    """Return what the study cost.

    Args:
        analysis: The analysis of the study.
    """
    trials = {trial.id: trial for each in analysis.boards for trial in each.trials}
    steps, seconds = sum(t.steps for t in trials.values()), sum(t.seconds for t in trials.values())
    time = f"{seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} hours"
    return f"{counted(len(trials), 'trial')}, {steps:,} training steps, {time} of one worker."


def not_tested(analysis: Analysis) -> str:
    """Return what the study says nothing about.

    Args:
        analysis: The analysis of the study.
    """
    study, models = analysis.main.study, sorted({str(each.study.model) for each in analysis.boards})
    said = [
        f"Other models than {listed(models, 3)} ({analysis.model_parameters / 1e6:.3g} M parameters), other tasks "
        f"than {listed(study.tasks, 5)}, and training for longer than {study.training.steps:,} steps."
    ]
    judgement = analysis.judgement
    if judgement is not None:
        untested = sum(bool(verdict.untested) for verdict in judgement.verdicts)
        said.append(f"{untested} of {len(judgement.verdicts)} claims with a test were not tested.")
    if analysis.failures:
        said.append(f"{counted(len(analysis.failures), 'trial')} failed (above).")
    return " ".join(said)


def theses(judgement: Judgement | None) -> list[ThesisWords]:
    """Return the theses of a map, in words.

    Args:
        judgement: The verdicts on the map; None without one.
    """
    if judgement is None:
        return []
    in_full = dict(judgement.curve).get(1.0)
    found = []
    for title in judgement.theses:
        before, after = judgement.thesis(title)
        found.append(
            ThesisWords(
                title,
                judgement.map.claims[title].text,
                before,
                after,
                SEMANTICS[judgement.semantics],
                _hangs_on(judgement, title),
                None if in_full is None or judgement.semantics != BAYES else in_full.claims[title].credence,
            )
        )
    return found


def _hangs_on(judgement: Judgement, title: str) -> tuple[str, ...]:
    try:
        slopes = sensitivities(judgement.map, title, judgement.semantics)
    except AdapterlabError:  # a map that this semantics cannot score
        return ()
    names = [name[1:-1] for name in slopes if name.startswith("[") and name.endswith("]") and " if " not in name]
    return tuple(name for name in names if name != title and name in judgement.map.claims)[:NAMED]
