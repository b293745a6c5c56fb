"""The tuning regret of a study, in words, on the page, on the terminal, and in the verdict."""

from __future__ import annotations

import html
import io
import json
import math

import pytest
from rich.console import Console

from adapterlab.lab.analysis.regret import TuningRegret
from adapterlab.lab.run.lr_search import Flag, position_of
from adapterlab.lab.run.prepare import PreparedStudy
from adapterlab.lab.run.regret import Regret
from adapterlab.lab.run.study_play import play_study
from adapterlab.lab.study.spec import Contestant, Tuning
from adapterlab.report.page import write_report
from adapterlab.report.terminal import show
from adapterlab.report.verdict_json import to_json
from adapterlab.verdict import Analysis, analyse
from tests.lab.unplayed import outcome_of, prepared_of, study_of


def analysed(moved: int, growth: int = 8) -> Analysis:
    """A study in which the best rate of OFT in long runs is so many steps above its best rate in short ones.

    IA3 gets better with every rate, so that none of those tried is shown to be the best.
    """
    tuning = Tuning(regret_contestants=("oft",), growth=growth)
    entries = tuple(Contestant(adapter=name, start=1e-2) for name in ("lora", "oft", "ia3"))
    prepared = prepared_of(study_of(contestants=entries, tuning=tuning, tasks=("prose", "restyle")))

    def loss(contest, trial) -> float:
        if contest.adapter is None:
            return 3.0
        at = position_of(trial.lr)
        if contest.contestant == "ia3":
            return 2 - 0.01 * at
        best = -8 + (moved if contest.contestant == "oft" and trial.steps == 20 else 0)
        return 1 + 0.208 * ((at - best) / 4) ** 2 + 1e-4 * trial.seed

    contests = play_study(prepared.contests(), lambda contest, trial: outcome_of(trial, loss(contest, trial)))
    return analyse(PreparedStudy(prepared.resolved, {}, 10**6), contests)


@pytest.fixture(scope="module")
def analysis() -> Analysis:
    return analysed(moved=4)


def test_the_board_has_the_regret_of_the_sample_and_the_number_of_extensions(analysis):
    found = analysis.main.regret
    assert list(found.regrets) == ["lora", "oft"]
    assert found.regrets["lora"] == Regret(0.0, 0.0)
    assert found.extensions == 2
    # Two extensions have gone two of four steps; the next rate is one step nearer.
    assert found.regrets["oft"].mean == pytest.approx(0.208 / 16 * (2**2 - 1**2))
    assert found.too_large == ("oft",)
    assert found.sentence == (
        "Tuning regret: lora 0.000 ± 0.000, oft 0.039 ± 0.000 nats per byte, after 2 extensions of all searches; that of "
        "oft is above 0.005, the smallest difference that matters."
    )
    assert (
        analysed(moved=0).main.regret.sentence == "Tuning regret: lora 0.000 ± 0.000, oft 0.000 ± 0.000 nats per byte."
    )


def test_no_measurement_is_no_sentence_and_a_divergence_is_named():
    assert TuningRegret({}, 0.005, 0, "nats per byte").sentence == ""
    lost = TuningRegret({"lora": Regret(math.inf, math.nan)}, 0.005, 1, "nats per byte")
    assert "lora infinite (the chosen rate diverged) nats per byte, after 1 extension of all searches" in lost.sentence
    assert lost.too_large == ("lora",)


def test_the_regret_and_the_flags_are_on_the_terminal_the_page_and_in_the_verdict(analysis, tmp_path):
    out = io.StringIO()
    show(analysis, Console(file=out, width=80, color_system=None))
    said = " ".join(out.getvalue().split())
    assert analysis.main.regret.sentence in said
    assert max(map(len, out.getvalue().splitlines())) <= 80
    write_report(analysis, tmp_path / "report.html")
    page = " ".join(html.unescape((tmp_path / "report.html").read_text()).split())
    assert analysis.main.regret.sentence in page
    (board,) = to_json(analysis)["boards"]
    assert board["tuning_regret"] == {
        "contestants": {
            "lora": {"mean": 0.0, "error": 0.0},
            "oft": {"mean": pytest.approx(0.039), "error": pytest.approx(0, abs=1e-9)},
        },
        "smallest": 0.005,
        "extensions": 2,
        "too_large": ["oft"],
    }
    flags = {entry["name"]: entry["search_flags"] for entry in board["contestants"]}
    edges = {"prose": "edge", "restyle": "edge"}
    # The extensions took OFT to the highest rate of its bracket; IA3's search ended at the limit of its growth.
    assert flags == {"lora": {}, "oft": edges, "ia3": edges}
    json.dumps(flags)
    for text in ("oft on prose", "oft on restyle", "ia3 on prose", "ia3 on restyle"):
        assert text in said
        assert text in page
    assert Flag.EDGE.text in said
    assert page.count(f'class="flag" title="{Flag.EDGE.text}"') == 4
    frame = analysis.scoreboard.set_index("contestant")
    assert frame.loc["ia3", "search_flag_prose"] == "edge"
    assert frame.loc["lora", "search_flag_prose"] == ""


def test_rate_curves_carry_the_flag(analysis):
    assert {(curve.contestant, curve.flag) for curve in analysis.main.doubtful_rates} == {
        ("oft", Flag.EDGE),
        ("ia3", Flag.EDGE),
    }
