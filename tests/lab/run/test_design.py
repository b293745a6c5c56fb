"""The design of a study is recorded before its first trial, and every change of it is named from then on."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.design import FILE, DesignHistory, Entry, extend, intact, lock_design, plan_of
from adapterlab.lab.run.resolve import BaseModel
from adapterlab.lab.study.spec import Limits, Reporting
from tests.lab.unplayed import prepared_of, study_of


def plan(map_text="[Thesis]: yes", seeds=(1, 2, 3), **study):
    return plan_of(prepared_of(study_of(report=Reporting(seeds=seeds), **study)).resolved, map_text)


def test_a_design_is_recorded_once(tmp_path):
    first = lock_design(tmp_path, plan(), 0)
    again = lock_design(tmp_path, plan(), 57)
    assert first == again
    assert first.remarks == []
    recorded = first.to_json()
    assert recorded["trials_when_locked"] == 0
    assert recorded["changes"] == []
    assert recorded["stopping_rule"].startswith("fixed: 3 reported runs")


def test_a_change_under_a_ledger_is_named_with_the_keys_that_changed(tmp_path):
    lock_design(tmp_path, plan(), 0)
    changed = lock_design(tmp_path, plan("[Thesis]: no", seeds=(1, 2, 3, 4)), 12)
    (remark,) = changed.remarks
    assert "after 12 trials: report.seeds, the map, the rule for stopping." in remark
    assert changed.to_json()["changes"][0]["changed"] == ["study.report.seeds", "map", "stopping"]
    assert changed.to_json()["trials_when_locked"] == 12
    # Going back is a change too: nothing is forgotten.
    assert len(lock_design(tmp_path, plan(), 30).remarks) == 2


def test_limits_are_no_part_of_the_design(tmp_path):
    lock_design(tmp_path, plan(), 0)
    assert lock_design(tmp_path, plan(limits=Limits(workers=7, lanes=2)), 12).remarks == []


def test_other_weights_or_data_under_the_same_names_are_a_change(tmp_path):
    resolved = prepared_of(study_of()).resolved
    lock_design(tmp_path, plan_of(resolved, None), 0)
    other = replace(resolved, models={"embedded": BaseModel("f" * 12)}, data=dict.fromkeys(resolved.data, "other"))
    (remark,) = lock_design(tmp_path, plan_of(other, None), 3).remarks
    assert remark.endswith("the model's weights, the data.")


def test_a_ledger_from_before_the_record_is_named(tmp_path):
    assert lock_design(tmp_path, plan(), 9).remarks == ["The design was recorded after 9 trials had run."]


def test_the_code_is_its_source_and_not_the_number_of_its_version(tmp_path):
    first = dict(plan())
    version, source = first["code"].rsplit(" ", 1)
    lock_design(tmp_path, first, 0)
    renamed = {**first, "code": f"{version}.dev1 {source}"}
    assert lock_design(tmp_path, renamed, 12).remarks == []
    (remark,) = lock_design(tmp_path, {**first, "code": f"{version} 0123456789abcdef"}, 12).remarks
    assert remark.endswith("after 12 trials: the code of adapterlab.")
    # A record that was written when the version's number counted.
    entries = extend((), first, 0, "2026-11-29")
    old = Entry(renamed, "2026-11-30", 647, ("code",), entries[0].hash, "")
    assert DesignHistory((*entries, old), True).remarks == []


@pytest.mark.parametrize("edit", ["date", "trials", "plan", "remove"])
def test_a_record_edited_by_hand_is_named(edit, tmp_path):
    lock_design(tmp_path, plan(), 0)
    lock_design(tmp_path, plan(seeds=(1, 2)), 12)
    entries = json.loads((tmp_path / FILE).read_text())
    if edit == "remove":
        del entries[0]
    elif edit == "plan":
        entries[0]["plan"]["study"]["report"]["seeds"] = [1, 2]
    else:
        entries[1][edit] = {"date": "2020-01-01T00:00:00+00:00", "trials": 0}[edit]
    (tmp_path / FILE).write_text(json.dumps(entries))
    history = lock_design(tmp_path, plan(seeds=(1, 2)), 12)
    assert not history.intact
    assert not intact(history.entries)
    assert history.remarks[-1] == "design.json was edited by hand: its dates and changes cannot be relied on."
    assert history.to_json()["intact"] is False


@pytest.mark.parametrize("text", ["", "{", "[1]", '[{"plan": {}}]'])
def test_a_record_that_cannot_be_read_is_refused(text, tmp_path):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(AdapterlabError, match=r"design\.json cannot be read as a record of the design: restore it"):
        lock_design(tmp_path, plan(), 0)
