"""`adapterlab report`: the report from a ledger, whole or in part, as a page, as Markdown, and for PEFT's benchmark."""

from __future__ import annotations

import json
import math
import re

import pandas as pd
import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

import adapterlab
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.study.load import load_study
from adapterlab.models.loading import load_causal
from adapterlab.report.markdown import escape
from tests.lab.filled import fill
from tests.lab.in_process import use
from tests.lab.tiny import save_study


def call(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def output(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.stdout


def mistake(*arguments: object) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, AdapterlabError), result.output
    return str(result.exception)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the results of a study that ran."""
    place = tmp_path_factory.mktemp("place")
    study = save_study(place, steps=6)
    with pytest.MonkeyPatch.context() as patch:
        use(patch)
        patch.chdir(place)
        output("run", study)
    return place / "runs/tiny"


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    """Two tasks, three contestants and full fine-tuning; the last contestant has begun, and restyle has not."""
    place = tmp_path_factory.mktemp("unfinished")
    path = save_study(place, more='\n[[contestants]]\nadapter = "vera"\nsettings = {rank = 3}\n')
    text = path.read_text().replace('["prose"]', '["prose", "restyle"]')
    text = text.replace("regret_sample = 1", "regret_sample = 0")  # whose searches wait for no others
    path.write_text(re.sub(r"full_ft.*\n", "", text))
    study = load_study(path)

    def loss(contest, trial):
        return (
            3.0
            - 0.1 * (contest.contestant == "ia3")
            + 0.01 * (trial.seed % 3)
            + 0.1 * abs(math.log10(trial.lr or 1) + 2)
        )

    def done(contest, trial):
        return trial.task == "prose" and (contest.contestant != "vera" or trial.lr < 1e-2)

    fill(place / "runs/tiny", study, load_causal(study.model).model, loss, done)
    return place / "runs/tiny"


@pytest.fixture(autouse=True)
def nothing_is_trained(monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("a trial was trained")

    monkeypatch.setattr("adapterlab.lab.trial.train.run", refuse)


def test_the_page_is_the_one_that_the_run_wrote(place, tmp_path):
    def plain(text: str) -> str:
        """Without the numbers of clipping paths, which a process counts."""
        return re.sub(r"clip\d+", "clip", text)

    written = plain((place / "report.html").read_text())
    assert output("report", place).strip() == str(place / "report.html")
    assert plain((place / "report.html").read_text()) == written
    output("report", place, "--out", tmp_path / "new" / "r.html")
    assert plain((tmp_path / "new" / "r.html").read_text()) == written
    assert plain(output("report", place, "--out", "-")) == written


def test_the_analysis_is_that_of_the_run(place):
    analysis = adapterlab.analysis(place)
    assert analysis.answer == json.loads((place / "verdict.json").read_text())["answer"]
    assert not analysis.notes


def test_the_markdown_has_the_answer_the_scoreboard_and_what_was_not_tested(place):
    text = output("report", place, "--format", "md", "--out", "-")
    verdict = json.loads((place / "verdict.json").read_text())
    assert escape(verdict["answer"]) in text
    (board,) = verdict["boards"]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    rows = {cells[0].removesuffix(r"\*"): cells[1:] for cells in lines}
    for row in board["contestants"]:
        gain = row["gain"]
        assert rows[row["name"]][1] == "{:+.3f} ({:+.3f} to {:+.3f})".format(gain["mean"], gain["low"], gain["high"])
    thesis = verdict["theses"]["Natural Manifold"]["bayes"]
    assert "{before:.3f} to **{after:.3f}** (bayes".format(**thesis) in text
    moved = [claim for claim in verdict["claims"] if abs(claim["after"] - claim["before"]) >= 0.005]
    for claim in moved:
        assert "| {} | {:.2f} to **{:.2f}** |".format(escape(claim["claim"]), claim["before"], claim["after"]) in text
    untested = sum("untested" in claim for claim in verdict["claims"])
    assert f"{untested} of the map's {len(verdict['claims'])} claims were not tested" in text
    assert len(text) < 8000


def test_the_markdown_is_read_as_tables_and_shows_names_as_they_are(place):
    html = MarkdownIt("gfm-like", {"linkify": False}).render(output("report", place, "--format", "md", "--out", "-"))
    assert html.count("<table>") >= 1
    assert re.search(r"<td[^>]*>lora</td>", html)
    hostile = "a|b *c* _d_ `e` <script> [f](g) ~h~ \\ &lt;\n# i"
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(f"| x |\n|:--|\n| {escape(hostile)} |\n")
    (cell,) = re.findall(r"<td[^>]*>(.*)</td>", shown)
    assert "<" not in cell
    assert cell.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") == " ".join(hostile.split())


def test_by_default_the_markdown_is_beside_the_results(place):
    assert output("report", place, "--format", "md").strip() == str(place / "report.md")
    assert (place / "report.md").read_text().startswith("## tiny")


def test_an_unfinished_study_is_reported_as_far_as_it_is(unfinished):
    result = call("report", unfinished, "--format", "md", "--out", "-")
    remark = "This study is not finished. The report has 3 of its 4 contestants and 1 of its 2 tasks"
    assert remark in " ".join(result.stderr.split())
    assert remark in result.stdout
    assert "| lora |" in result.stdout
    assert "| ia3" in result.stdout
    assert "| vera |" not in result.stdout
    analysis = adapterlab.analysis(unfinished)
    assert analysis.study.tasks == ("prose",)
    # The numbers are those that a study of these contestants on this task has.
    gains = {row.contestant: row.gain.mean for row in analysis.main.scoreboard.rows}
    assert gains["ia3"] - gains["lora"] == pytest.approx(0.1 + _away(unfinished, "lora") - _away(unfinished, "ia3"))


def _away(folder, name) -> float:
    """Loss that the distance of the chosen rate from 0.01 adds to the made-up losses."""
    (curve,) = [c for c in adapterlab.analysis(folder).main.rate_curves if c.contestant == name]
    return 0.1 * abs(math.log10(curve.chosen) + 2)


def test_too_little_for_a_report_is_one_line(unfinished, tmp_path):
    ledger = tmp_path / "few"
    ledger.mkdir()
    Ledger(ledger / "ledger.sqlite").close()
    (ledger / "study.json").write_text((unfinished / "study.json").read_text())
    said = mistake("report", ledger)
    assert f"{ledger} has too few finished contests for a report: `adapterlab run {ledger}` continues" in said
    assert "has no results yet" in mistake("report", "quick")


def test_options_that_do_not_go_together_are_named(place):
    assert "--serve writes nothing" in mistake("report", place, "--serve", "--format", "md")
    assert "relevance is 2" in mistake("report", place, "--relevance", "2")
    folder_in_the_way = place / "report.html" / "x.md"
    assert "cannot write" in mistake("report", place, "--format", "md", "--out", folder_in_the_way)


# What `method_comparison/processing.py` of PEFT reads from each file, at its revision 5d602fd: the path of each column
# and the type that it is converted to. Its source is not part of the package on PyPI.
PEFT_COLUMNS = {
    "experiment_name": ("run_info.experiment_name", "string"),
    "model_id": ("run_info.train_config.model_id", "string"),
    "accelerator_memory_reserved_avg": ("train_info.accelerator_memory_reserved_avg", int),
    "accelerator_memory_max": ("train_info.accelerator_memory_max", int),
    "accelerator_memory_reserved_99th": ("train_info.accelerator_memory_reserved_99th", int),
    "total_time": ("run_info.total_time", float),
    "train_time": ("train_info.train_time", float),
    "file_size": ("train_info.file_size", int),
    "num_trainable_params": ("train_info.num_trainable_params", int),
    "train_loss": ("train_info.metrics.-1.train loss", float),
    "train_samples": ("train_info.metrics.-1.train samples", int),
    "peft_version": ("meta_info.package_info.peft-version", "string"),
    "peft_branch": ("run_info.peft_branch", "string"),
    "transformers_version": ("meta_info.package_info.transformers-version", "string"),
    "datasets_version": ("meta_info.package_info.datasets-version", "string"),
    "torch_version": ("meta_info.package_info.torch-version", "string"),
    "created_at": ("run_info.created_at", "string"),
    "test_accuracy": ("train_info.metrics.-1.test accuracy", float),
    "train_total_tokens": ("train_info.metrics.-1.train total tokens", int),
    "forgetting*": ("train_info.metrics.-1.forgetting", float),
    "bitsandbytes_version": ("meta_info.package_info.bitsandbytes-version", "string"),
}


def read_as_peft_does(folder) -> pd.DataFrame:
    rows = []
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        if content["train_info"]["status"] != "success":
            continue
        row = {}
        for column, (where, _) in PEFT_COLUMNS.items():
            found = content
            for key in where.split("."):
                found = found[int(key)] if isinstance(found, list) else found[key]
            row[column] = found
        config = content["run_info"]["peft_config"]
        row["peft_type"] = config["peft_type"] if config else "full-finetuning"
        json.dumps(content["meta_info"]["system_info"])
        rows.append(row)
    frame = pd.DataFrame(rows).astype({column: kind for column, (_, kind) in PEFT_COLUMNS.items()})
    frame["created_at"] = pd.to_datetime(frame["created_at"])
    for column in ("train_time", "total_time"):
        frame[column] = frame[column].round().astype(int)
    return frame.sort_values("created_at").drop_duplicates(["experiment_name", "model_id", "peft_type", "created_at"])


def test_peft_reads_the_files_of_a_task(place, tmp_path):
    said = output("report", place, "--format", "method-comparison", "--out", tmp_path / "mc")
    assert f"2 files in {tmp_path / 'mc'}" in said
    frame = read_as_peft_does(tmp_path / "mc/prose").set_index("peft_type")
    assert set(frame.index) == {"LORA", "IA3"}
    reported = {}
    for trial, outcome, _ in Ledger(place / "ledger.sqlite"):
        if trial.rows and trial.method != "frozen":
            reported.setdefault(trial.method.upper(), []).append(outcome)
    for name, outcomes in reported.items():
        assert frame["test_accuracy"][name] == pytest.approx(sum(o.scores["test"][1] for o in outcomes) / len(outcomes))
        assert frame["num_trainable_params"][name] == outcomes[0].parameters
        assert frame["file_size"][name] == 4 * outcomes[0].parameters
        assert frame["train_samples"][name] == 6 * 2
    gained = {row["name"].upper(): row["forgetting"]["mean"] for row in _board(place)["contestants"]}
    assert frame["forgetting*"].to_dict() == pytest.approx(gained)


def _board(place):
    return json.loads((place / "verdict.json").read_text())["boards"][0]


def test_the_files_have_our_intervals_and_their_trials(place):
    files = json.loads(output("report", place, "--format", "method-comparison", "--out", "-"))
    known = {trial.id for trial, _, _ in Ledger(place / "ledger.sqlite")}
    forgetting = {row["name"]: row["forgetting"] for row in _board(place)["contestants"]}
    for file in files:
        ours = file["adapterlab"]
        name = file["run_info"]["peft_config"]["adapter"]
        for key in ("mean", "low", "high"):
            assert ours["estimates"]["forgetting"][key] == pytest.approx(forgetting[name][key])
        assert set(ours["trials"]) <= known
        assert ours["seeds"] == [1, 2]
        assert not re.search(r"NaN|Infinity", json.dumps(file))


def test_full_fine_tuning_has_no_config_of_peft(unfinished, tmp_path):
    output("report", unfinished, "--format", "method-comparison", "--out", tmp_path)
    assert set(read_as_peft_does(tmp_path / "prose")["peft_type"]) == {"LORA", "IA3", "full-finetuning"}
