"""Texts that a user gives are shown as they are: never as markup, code, control sequences or formulas."""

from __future__ import annotations

import html
import io
import re
from xml.etree import ElementTree

import pandas as pd
import pytest
from rich.console import Console

from adapterlab.lab.analysis.power import power_of
from adapterlab.lab.analysis.trial_table import inert, read_csv, write_table
from adapterlab.lab.run.estimate import Entry, Estimate
from adapterlab.lab.run.precision_choice import PrecisionChoice
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.run.status import StudyStatus, TrialLabel
from adapterlab.lab.study.sweep import Cell
from adapterlab.report.page import write_report
from adapterlab.report.plain import plain
from adapterlab.report.progress import show_estimate, show_status
from adapterlab.report.terminal import show
from tests.lab.made_up import analysed, played

MARKUP = "x[/b][red]"
SCRIPT = "<img src=x onerror=alert(1)>"
CODES = "y\x1b[31m\x07\u202e"
LABELS = {"lora": f"lora{MARKUP}", "oft": f"oft{SCRIPT}", "ia3": f"ia3{CODES}"}
TITLE = f"title{MARKUP}{SCRIPT}{CODES}"
GAINS = {"lora": 0.2, "oft": 0.22, "ia3": 0.1}


@pytest.fixture(scope="module")
def analysis():
    return analysed(played(tuple(GAINS), gains=GAINS, labels=LABELS, title=TITLE, noise=0.01))


def console():
    return Console(file=io.StringIO(), width=300, force_terminal=True, color_system=None)


def clean(text):
    """The text holds every label as it is, and no control sequence of theirs."""
    assert f"lora{MARKUP}" in text
    assert f"oft{SCRIPT}" in text
    assert r"ia3y\x1b[31m\x07\u202e" in text
    assert not re.search("[\x07\u202e]", text)
    assert "\x1b[31m" not in text


def test_results_on_a_terminal(analysis):
    out = console()
    show(analysis, out)
    clean(out.file.getvalue())
    assert f"runs/{MARKUP}/" in out.file.getvalue() or len(analysis.boards) == 1


def status_of(study):
    labels = tuple(TrialLabel(name, "prose", 1e-3, 1, 20, note=f"failed {MARKUP}") for name in LABELS.values())
    phases = {Cell(): {name: {"prose": "done", f"task{MARKUP}": "waiting"} for name in LABELS.values()}}
    return StudyStatus(
        study=study, command=f"adapterlab run {MARKUP}", phases=phases, steps_done=1, steps_left=2, trials=3,
        finished=False, seconds_left=3.0, workers=1, being_written=False, knows_running=True,
        running=labels, next=labels, diverged=labels, failed=labels, remarks=(f"a remark {CODES}{MARKUP}",),
    )  # fmt: skip


def test_a_status_on_a_terminal(analysis):
    out = console()
    show_status(status_of(analysis.main.study), out)
    text = out.file.getvalue()
    clean(text)
    for said in (f"task{MARKUP}", f"failed {MARKUP}", f"adapterlab run {MARKUP}", "a remark y"):
        assert said in text


def test_a_plan_on_a_terminal(analysis):
    study, out = analysis.main.study.model_copy(update={"full_ft_reason": f"because {MARKUP}"}), console()
    entries = tuple(Entry(name, Cell(), f"pattern = {MARKUP}", 10, "", True, None, MARKUP) for name in LABELS.values())
    choice = PrecisionChoice("float32", "chosen")
    estimate = Estimate(study, entries, 10, 1, 2, 3, 4, 0, 0, None, 1, "a device", choice, (f"mine: {MARKUP}.",))
    show_estimate(estimate, power_of(resolve(played(("lora", "oft"), gains=GAINS).resolved.study)), out)
    clean(out.file.getvalue())
    assert f"title{MARKUP}{SCRIPT}" in out.file.getvalue()
    assert f"because {MARKUP}" in out.file.getvalue()
    assert f"mine: {MARKUP}." in out.file.getvalue()
    assert f"pattern = {MARKUP}" in out.file.getvalue()


@pytest.mark.parametrize("text", [MARKUP, CODES, "[bold]", "\\[bold]", "a\\", "[/]", "[link=x]", "tab\there"])
def test_what_is_plain_is_printed_as_it_is(text):
    out = Console(file=io.StringIO(), width=200, color_system="truecolor", force_terminal=True)
    out.print(f"[bold]{plain(text)}[/bold]", highlight=False)
    shown = re.sub(r"\x1b\[[01]m", "", out.file.getvalue()).rstrip("\n")
    assert shown.expandtabs() == "".join(ascii(c)[1:-1] if c in "\x1b\x07\u202e" else c for c in text).expandtabs()


def test_the_report_is_html_in_which_nothing_of_a_name_is_code(analysis, tmp_path):
    write_report(analysis, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<img" not in page
    assert html.escape(SCRIPT) in page or "&lt;img" in page
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert drawings
    for drawing in drawings:
        names = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(drawing).iter()}
        assert not names & {"img", "script", "foreignObject"}
    assert "\x1b" not in page
    assert "\u202e" not in page


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+1+cmd", "-x", "@SUM(A1)", "\tx", "\r=x"])
def test_cells_of_a_csv_are_no_formulas(cell, tmp_path):
    frame = pd.DataFrame({"trial": ["a", "b", "c"], "contestant": [cell, "lora", f"'{cell}"], "lr": [-0.5, 1e-3, 2.0]})
    write_table(frame.astype({"trial": "string", "contestant": "string"}), tmp_path / "t.csv", "csv")
    first = (tmp_path / "t.csv").read_bytes().decode().split("\n", 1)[1]
    cell = cell.replace("\r", "\n")
    assert first.startswith((f"a,'{cell}", f"a,\"'{cell}"))
    assert ",-0.5" in first
    assert list(read_csv(tmp_path / "t.csv")["contestant"]) == [cell, "lora", f"'{cell}"]


def test_numbers_in_cells_stay():
    assert [inert(text) for text in ("-3", "+1e-3", "-inf", "lora", "")] == ["-3", "+1e-3", "-inf", "lora", ""]
