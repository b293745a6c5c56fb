"""A ledger that is exported and imported again is the same ledger, and a file that is not whole changes nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import adapterlab
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.records import CHECKSUM, RECORD, encode
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.ledger.trial_file import KEY, write_trial_file
from adapterlab.lab.trial.spec import Finished, Outcome
from tests.lab.in_process import use
from tests.lab.tiny import save_study


def call(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def output(*arguments: object) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, result.output + str(result.exception)
    return result.output


def mistake(*arguments: object) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, AdapterlabError), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def all_of(folder):
    return [(record.id, record.content, record.ended) for record in Ledger(folder / "ledger.sqlite").records()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A study that ran, with one trial that diverged and one that failed, and its export."""
    place = tmp_path_factory.mktemp("place")
    more = '\n[[contestants]]\nadapter = "vera"\nsettings = {rank = 3}\n'
    study = save_study(place, steps=6, more=more)
    with pytest.MonkeyPatch.context() as patch:
        use(patch)
        patch.chdir(place)
        output("run", study)
        folder = place / "runs/tiny"
        ledger = Ledger(folder / "ledger.sqlite")
        mine = [record for record in ledger.records() if record.finished.trial.method == "vera"]
        failing = next(record for record in mine if record.finished.trial.rows)
        ledger.remove([failing.id])
        outcome = Outcome("failed", {}, (), 0, 0.0, 0.0, "memory was short: 'x', \"y\"\u2028")
        ledger.record(Finished(failing.finished.trial, outcome, {"device": "a = \n'b'"}, None, 3))
        hottest = max(mine, key=lambda record: record.finished.trial.lr).finished
        ledger.remove([hottest.trial.id])
        nan = Outcome("diverged", {}, ((2, 1e9),), 10, 1.0, 0.5, "the loss was nan at step 2")
        ledger.record(hottest._replace(outcome=nan))
        output("run", study)  # the report has both
        (folder / "natural_manifold.lock.json").write_text("{}")
        output("export", folder, "--out", place / "trials.parquet")
        (folder / "natural_manifold.lock.json").unlink()
    return place


@pytest.fixture
def exported(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    use(monkeypatch)
    return place / "trials.parquet"


def changed(exported, target, change):
    """A copy of the file whose table was changed."""
    table = pq.read_table(exported)
    frame = change(table.to_pandas())
    new = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(new.replace_schema_metadata({**new.schema.metadata, KEY: table.schema.metadata[KEY]}), target)
    return target


def test_a_ledger_comes_back_as_it_was(place, exported, tmp_path):
    said = output("import-trials", exported, "--out", tmp_path / "there")
    count = len(Ledger(place / "runs/tiny/ledger.sqlite"))
    assert f"{count} trials imported into {tmp_path / 'there'}; 0 were there already" in said
    assert "other code" not in said
    assert all_of(tmp_path / "there") == all_of(place / "runs/tiny")
    statuses = set(Ledger(tmp_path / "there/ledger.sqlite").statuses().values())
    assert statuses == {"ok", "diverged", "failed"}
    for name in ("study.json", "design.json", "precision.json"):
        original = place / "runs/tiny" / name
        assert not original.exists() or (tmp_path / "there" / name).read_text() == original.read_text()
    assert (tmp_path / "there/natural_manifold.lock.json").read_text() == "{}"


def test_a_run_on_what_was_imported_trains_nothing_and_says_the_same(place, exported, tmp_path, monkeypatch):
    output("import-trials", exported)
    there = tmp_path / "runs/tiny"
    (there / "natural_manifold.lock.json").unlink()
    before = all_of(there)

    def refuse(*arguments, **options):
        raise AssertionError("a trial was trained")

    monkeypatch.setattr("adapterlab.lab.trial.train.run", refuse)
    output("run", there)
    assert all_of(there) == before
    assert json.loads((there / "verdict.json").read_text()) == json.loads(
        (place / "runs/tiny/verdict.json").read_text()
    )


def test_a_study_goes_on_where_it_stopped(place, exported, tmp_path):
    """Half of the trials are exported; the run on the other machine ends as the whole did."""
    half = tmp_path / "half"
    shutil.copytree(place / "runs/tiny", half)
    whole = all_of(half)
    Ledger(half / "ledger.sqlite").remove([name for name, _, _ in whole[::2]])
    output("export", half, "--out", tmp_path / "half.parquet")
    output("import-trials", tmp_path / "half.parquet", "--out", tmp_path / "there")
    output("run", tmp_path / "there")
    found = {t.id: o.scores for t, o, _ in Ledger(tmp_path / "there/ledger.sqlite") if o.status != "failed"}
    ours = {t.id: o.scores for t, o, _ in Ledger(place / "runs/tiny/ledger.sqlite") if o.status != "failed"}
    assert ours.items() <= found.items()  # the failed one may have been among those that were trained again


def test_what_is_there_already_is_counted_and_left(place, exported, tmp_path):
    there = tmp_path / "there"
    output("import-trials", exported, "--out", there)
    whole = all_of(there)
    Ledger(there / "ledger.sqlite").remove([whole[0][0], whole[1][0]])
    assert f"2 trials imported into {there}; {len(whole) - 2} were there already" in output(
        "import-trials", exported, there
    )
    assert all_of(there) == whole


def test_another_outcome_of_a_trial_is_refused_and_nothing_is_written(place, exported, tmp_path):
    there = tmp_path / "there"
    output("import-trials", exported, "--out", there)
    ledger = Ledger(there / "ledger.sqlite")
    first, second = list(ledger.records())[:2]
    ledger.remove([first.id, second.id])
    ledger.record(second.finished._replace(outcome=replace(second.finished.outcome, seconds=1e6)))
    before = all_of(there)
    said = mistake("import-trials", exported, there)
    assert f"has another outcome of trial {second.id}; nothing was imported" in said
    assert f"`adapterlab retry {there} --trial {second.id}`" in said
    assert all_of(there) == before


def test_another_study_takes_the_trials_and_not_the_design(place, exported, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text((place / "tiny.toml").read_text().replace('name = "tiny"', 'name = "other"'))
    output("import-trials", exported, other, "--out", tmp_path / "there")
    assert all_of(tmp_path / "there") == all_of(place / "runs/tiny")
    assert not (tmp_path / "there" / "design.json").exists()
    assert json.loads((tmp_path / "there" / "study.json").read_text())["name"] == "other"


def test_a_study_may_be_named_in_place_of_the_files_own(place, exported, tmp_path):
    output("import-trials", exported, place / "tiny.toml", "--out", tmp_path / "there")
    assert adapterlab.status(tmp_path / "there").finished


def spoilt(row: int, column: str, value):
    def change(frame):
        frame.loc[row, column] = value(frame.loc[row, column]) if callable(value) else value
        return frame

    return change


def renamed(frame):
    """Another trial under the name of the first, with a checksum of its own."""
    frame.loc[0, [RECORD, CHECKSUM, "curve", "path", "along", "rows", "answers"]] = frame.loc[
        1, [RECORD, CHECKSUM, "curve", "path", "along", "rows", "answers"]
    ]
    return frame


CASES = {
    "a number": (spoilt(0, RECORD, lambda text: text.replace('"lr": ', '"lr": 1')), "row 1, .*checksum does not match"),
    "a curve": (spoilt(0, "curve", "[[1, 2.0]]"), "row 1, .*checksum does not match"),
    "an empty cell": (spoilt(0, "rows", None), "row 1, .*a cell is empty"),
    "no record": (lambda f: f.assign(**{RECORD: None, CHECKSUM: None}), "has no record"),
    "twice": (lambda f: pd.concat([f, f.iloc[:1]]), "is there twice"),
    "another id": (renamed, "row 1, .*its content gives the id"),
    "no column": (lambda f: f.drop(columns=[CHECKSUM, "answers"]), "has no column checksum, answers"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_file_is_named_and_writes_nothing(exported, tmp_path, case):
    change, message = CASES[case]
    with pytest.raises(AdapterlabError, match=message) as caught:
        adapterlab.import_trials(changed(exported, tmp_path / "bad.parquet", change), out=tmp_path / "there")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "there").exists()


def test_other_formats_are_named(exported, tmp_path):
    def written(metadata):
        table = pq.read_table(exported)
        pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "f.parquet")
        return tmp_path / "f.parquet"

    about = json.loads(pq.read_schema(exported).metadata[KEY])
    assert "has format 2, but this program reads format 1" in mistake(
        "import-trials", written({KEY: json.dumps(about | {"format": 2})})
    )
    assert "holds no ledger: it was written by another program" in mistake("import-trials", written({}))
    assert "has damaged metadata" in mistake("import-trials", written({KEY: b"{"}))
    outside = json.dumps(about | {"files": {"../x.lock.json": ""}})
    assert "has damaged metadata" in mistake("import-trials", written({KEY: outside}))
    (tmp_path / "t.parquet").write_text("trial,lr\n")
    assert "t.parquet cannot be read: it is not a Parquet file" in mistake("import-trials", tmp_path / "t.parquet")
    assert "no.parquet cannot be read: there is no such file" in mistake("import-trials", tmp_path / "no.parquet")
    (tmp_path / "cut.parquet").write_bytes(exported.read_bytes()[:-200])
    assert "cannot be read" in mistake("import-trials", tmp_path / "cut.parquet")
    assert not (tmp_path / "runs").exists()


def test_numbers_that_json_lacks_come_back(tmp_path, place):
    """Not a number and infinity, in a curve and in a geometry."""
    ledger = Ledger(place / "runs/tiny/ledger.sqlite")
    record = next(iter(ledger.records()))
    outcome = replace(
        record.finished.outcome,
        curve=((1, float("inf")),),
        geometry={"drift(base)": float("nan")},
        along=((2, {"test": (0.1, float("nan"))}),),
    )
    mine = Ledger(tmp_path / "ledger.sqlite")
    mine.record(record.finished._replace(outcome=outcome))
    (ours,) = mine.records()
    write_trial_file(pd.DataFrame({"trial": [ours.id]}), mine, tmp_path / "t.parquet")
    frame = pq.read_table(tmp_path / "t.parquet").to_pandas()
    assert frame[RECORD][0] == encode(ours)[RECORD]
    (tmp_path / "study.json").write_text((place / "runs/tiny/study.json").read_text())
    adapterlab.import_trials(tmp_path / "t.parquet", place / "tiny.toml", out=tmp_path / "there")
    assert all_of(tmp_path / "there") == [(ours.id, ours.content, ours.ended)]
