"""`adapterlab tune` from a cold start on a tiny model: stopped, gone on with, and what it leaves behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import adapterlab
from adapterlab.cli import app, main
from adapterlab.lab.ledger.store import Ledger
from tests.lab.in_process import use
from tests.lab.tiny import save_model
from tests.report.page_data import trials_of
from tests.tasks.user_files import completions, labelled, texts, write

OPTIONS = ["--contestants", "lora,ia3", "--budget", "3%", "--time", "5m", "--seeds", "2", "--workers", "2"]


def start(folder: Path, train: str, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "adapterlab", "tune", "--model", "model", "--train", train, *options]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(folder: Path, train: str, *options: str) -> str:
    """Standard output of the command, run in this process because a new one takes seconds to import torch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = CliRunner().invoke(app, ["tune", "--model", "model", "--train", train, *options])
    assert done.exit_code == 0, done.output + str(done.exception)
    return done.stdout


def board_of(text: str) -> str:
    """From the board's heading on, without the lines of the log."""
    return re.sub(r"(?m)^\[ *\d+ s\].*\n", "", text[text.index("  contestant ") :])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A user's own: a model and rows."""
    folder = tmp_path_factory.mktemp("user")
    save_model(folder / "model")
    write(folder / "sums.jsonl", completions(60))
    write(folder / "others.jsonl", completions(12, 500))
    write(folder / "known.jsonl", texts(12))
    write(folder / "films.jsonl", labelled(60))
    return folder


@pytest.fixture(scope="module")
def stopped(folder) -> tuple[str, int]:
    """What Ctrl-C in the middle says, and how many trials it leaves."""
    process = start(folder, "sums.jsonl", "--ood", "others.jsonl", "--keep", "known.jsonl", *OPTIONS)
    ledger = folder / "runs/model-sums/ledger.sqlite"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        if ledger.exists() and len(Ledger(ledger)) >= 2:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    return out, len(Ledger(ledger))


@pytest.fixture(scope="module")
def said(folder, stopped) -> str:
    """What it says when it goes on to the end."""
    return finish(folder, "sums.jsonl", "--ood", "others.jsonl", "--keep", "known.jsonl", *OPTIONS)


@pytest.fixture(scope="module")
def out(folder, said) -> Path:
    return folder / "runs/model-sums"


def test_ctrl_c_says_what_is_kept(stopped):
    text, kept = stopped
    assert f"Stopped. {kept} trials are kept in" in " ".join(text.split())
    assert "Traceback" not in text


def test_the_ranking_stands_in_80_columns(said):
    board = board_of(said).split("The report")[0]
    assert max(map(len, board.splitlines())) <= 80
    assert re.search(r"^1 +(lora|ia3)\*? +[\d.e-]+ +[\d.]+k +[+-][\d.]+ \[[+-][\d.]+,[+-][\d.]+\]", board, re.MULTILINE)
    assert re.search(r"^ +full_ft", board, re.MULTILINE)


def test_the_advice_names_adapter_rate_doubt_and_costs(said):
    advice = " ".join(said.split())
    assert re.search(r"Take (lora|ia3) at a learning rate of [\d.e-]+: [\d.]+ nats per byte better", advice)
    assert re.search(r"is real|cannot be told from", advice)
    assert re.search(r"A step takes \d+ ms", advice)
    assert re.search(r"it forgets|no forgetting", advice)


def test_it_says_what_it_chose(said):
    text = " ".join(said.split())
    assert "14 linear layers are adapted (q_proj, k_proj" in text
    assert re.search(
        r"\d+ steps of 8 examples, 2 seeds, 3 contestants, of at most [\d,]+ trained parameters, \d+ rows", text
    )


def test_the_report_has_no_map_and_every_trial(out):
    page = (out / "report.html").read_text()
    assert "Scoreboard" in page
    assert 'id="map"' not in page
    assert len(trials_of(page)) == len(Ledger(out / "ledger.sqlite"))


def test_the_folder_is_a_study_to_the_other_commands(out):
    from adapterlab.lab.analysis.pairwise import compare
    from adapterlab.lab.run.locate import existing_ledger, open_study
    from adapterlab.lab.run.prepare import prepare

    study, folder = open_study(str(out), None)
    found = compare(prepare(study), existing_ledger(folder, study.name), ("lora", "ia3"))
    assert (found.tasks, found.effect.n) == (("sums",), 2)


def test_the_last_lines_load_the_winner(said, folder, out, monkeypatch):
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(said[said.index("To load it:") :].split("\n", 1)[1], names)
    model = names["model"].eval()
    assert isinstance(model, peft.PeftModel)
    ours = AutoModelForCausalLM.from_pretrained("model").eval()
    adapterlab.load(ours, out / "winner/adapterlab")
    ids = torch.arange(3, 15)[None]
    torch.testing.assert_close(model(ids).logits, ours(ids).logits, rtol=1e-4, atol=1e-5)


def test_the_winner_answers_better_than_the_base(said, folder, out):
    from adapterlab.models.loading import load_causal
    from adapterlab.tasks.base import Part
    from adapterlab.tasks.files import FileData, task_of

    model, tokenizer = load_causal(str(folder / "model"))
    task = task_of(FileData("sums", str(folder / "sums.jsonl")))
    test = task.examples(Part.TEST, tokenizer, 64, 100)
    before = task.score(model, test, None).loss
    adapterlab.load(model, out / "winner/adapterlab")
    card = json.loads((out / "winner/winner.json").read_text())
    recorded = {trial.id: outcome for trial, outcome, _ in Ledger(out / "ledger.sqlite")}[card["trial"]]
    after = task.score(model, test, None).loss
    assert after < before
    assert after == pytest.approx(recorded.scores["test"][0], rel=1e-4)


def test_a_second_call_runs_nothing_anew(folder, out, said):
    files = ("plan.json", "winner/winner.json", "winner/adapterlab/adapter.safetensors")
    before = {file: (out / file).stat().st_mtime_ns for file in files}
    again = finish(folder, "sums.jsonl", "--ood", "others.jsonl", "--keep", "known.jsonl", *OPTIONS)
    assert "trials are done; nothing to run." in again
    assert board_of(again) == board_of(said)
    assert {file: (out / file).stat().st_mtime_ns for file in files} == before


def test_a_classifier_from_a_language_model(folder, monkeypatch):
    use(monkeypatch)
    text = finish(folder, "films.jsonl", "--contestants", "lora", "--time", "5m", "--seeds", "2")
    assert "score.weight is new and is trained too" in " ".join(text.split())
    assert "nats per example" in text
    assert "forgets" not in text
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(text[text.index("To load it:") :].split("\n", 1)[1], names)
    from transformers import AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained("model"), names["model"].eval()
    for label, words in enumerate(("bad film number 8", "good film number 3")):  # in order: down, up
        assert model(**tokenizer([words], return_tensors="pt")).logits.argmax() == label


WRONG = {
    "time": (["--time", "soon"], r"--time 'soon' is not a length of time: give one like 90s"),
    "budget": (["--budget", "lots"], r"--budget 'lots' is not a size: give a share like 0.5%"),
    "a name": (["--contestants", "lora,dorra"], r"unknown adapter 'dorra' in --contestants: did you mean dora"),
    "nobody": (["--contestants", "full_ft"], r"full_ft always runs"),
    "a model": (["--model", "nothing"], r"cannot load the model 'nothing'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line(name, folder, monkeypatch, capsys):
    options, message = WRONG[name]
    monkeypatch.chdir(folder)
    error = refused(monkeypatch, capsys, *options)
    assert re.search(message, error)
    assert len(error.strip().splitlines()) == 1


def refused(monkeypatch, capsys, *options: str) -> str:
    """Error message of the command, which exits with status 2."""
    monkeypatch.setattr(sys, "argv", ["adapterlab", "tune", "--model", "model", "--train", "sums.jsonl", *options])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_a_time_that_is_too_short_is_one_line_and_nothing_is_kept(folder, monkeypatch, capsys):
    use(monkeypatch)
    monkeypatch.chdir(folder)
    error = refused(monkeypatch, capsys, "--time", "10s", "--out", "short")
    assert re.search(r"--time 10 s is too short: .* give --time \d+m", error)
    assert len(Ledger(folder / "short/ledger.sqlite")) == 0
    assert not (folder / "short/plan.json").exists()


def test_without_a_terminal_each_stage_is_a_line(said, stopped):
    lines = (stopped[0] + said).splitlines()
    stages = [line.partition("] ")[2] for line in lines if re.match(r"\[ *\d+ s\] ", line)]
    assert stages[:2] == ["reading the data", "reading the model"]
    for stage in ("timing 8 rows of the untrained model", "timing a step of lora", "writing the report"):
        assert stage in stages
    assert any(re.match(r"sums: running, [\d,]+ training steps", stage) for stage in stages)
