"""A run that was stopped goes on with what it has finished."""

from __future__ import annotations

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.geometry import run
from adapterlab.geometry.checkpoint import Checkpoint
from adapterlab.geometry.checkpoint_change import CheckpointChange
from adapterlab.geometry.plan import Plan
from adapterlab.geometry.resume import Record
from tests.geometry.checkpoints import save_pair

PLAN = Plan(hypotheses=("low_rank",), measures=("stable_rank",), draws=2, budgets=(500, 2000))


def test_parts_are_found_again(tmp_path):
    file = tmp_path / "new" / "progress.jsonl"
    with Record(file, "inputs") as record:
        record.add("layer a", {"norm": 0.1})
        record.add("layer b", {"norm": float("inf")})
    found = Record(file, "inputs")
    assert (found.get("layer a"), found.get("layer b")) == ({"norm": 0.1}, {"norm": float("inf")})


def test_nothing_is_written_before_a_part_is_finished(tmp_path):
    with Record(tmp_path / "progress.jsonl", "inputs"):
        assert list(tmp_path.iterdir()) == []


def test_parts_of_other_inputs_are_dropped(tmp_path):
    file = tmp_path / "progress.jsonl"
    with Record(file, "inputs") as record:
        record.add("layer a", 1)
    with Record(file, "others") as record:
        assert record.get("layer a") is None
        record.add("layer b", 2)
    assert Record(file, "inputs").get("layer a") is None
    assert Record(file, "others").get("layer b") == 2


def test_a_torn_last_line_is_dropped_and_written_over(tmp_path):
    file = tmp_path / "progress.jsonl"
    with Record(file, "inputs") as record:
        record.add("layer a", 1)
        record.add("layer b", 2)
    file.write_bytes(file.read_bytes()[:-4])
    with Record(file, "inputs") as record:
        assert (record.get("layer a"), record.get("layer b")) == (1, None)
        record.add("layer b", 3)
    again = Record(file, "inputs")
    assert (again.get("layer a"), again.get("layer b")) == (1, 3)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{}\n", b'["inputs"]\n', b'["layer a", 1]\n'])
def test_a_damaged_file_is_started_anew(tmp_path, content):
    file = tmp_path / "progress.jsonl"
    file.write_bytes(content)
    record = Record(file, "inputs")
    assert len(record) == 0
    record.add("layer a", 1)
    record.close()
    assert Record(file, "inputs").get("layer a") == 1


def test_two_runs_do_not_write_one_file(tmp_path):
    file = tmp_path / "progress.jsonl"
    with Record(file, "inputs") as first, Record(file, "inputs") as second:
        first.add("layer a", 1)
        with pytest.raises(AdapterlabError, match="another run is writing"):
            second.add("layer a", 1)


def test_a_link_is_not_followed(tmp_path):
    target = tmp_path / "precious"
    target.write_text("kept")
    (tmp_path / "progress.jsonl").symlink_to(target)
    with pytest.raises(AdapterlabError, match="cannot write"):
        Record(tmp_path / "progress.jsonl", "inputs").add("layer a", 1)
    assert target.read_text() == "kept"


class StoppedError(Exception):
    """Raised in place of a kill."""


def test_a_stopped_run_measures_the_rest_alone(tmp_path, monkeypatch):
    base, tuned = save_pair(tmp_path)
    change = CheckpointChange(Checkpoint(base), Checkpoint(tuned))
    whole = run.run_geometry(change, PLAN)
    measured = []
    original = run.measure_layer

    def measure_layer(layer, *settings):
        measured.append(layer.path)
        if len(measured) == 2:
            raise StoppedError
        return original(layer, *settings)

    monkeypatch.setattr(run, "measure_layer", measure_layer)
    file = tmp_path / "progress.jsonl"
    with Record(file, "x") as record, pytest.raises(StoppedError):
        run.run_geometry(change, PLAN, record=record)
    with Record(file, "x") as record:
        assert run.run_geometry(change, PLAN, record=record) == whole
    first, second = change.shapes.keys() - set(whole.unchanged)
    assert sorted(measured) == sorted([first, second, max(measured, key=measured.count)])
    with Record(file, "x") as record:
        assert run.run_geometry(change, PLAN, record=record) == whole
    assert len(measured) == 3
