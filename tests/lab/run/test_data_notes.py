"""Notes on a study's own data are in the plan and in the report."""

from __future__ import annotations

from dataclasses import replace

from adapterlab.lab.run.data_notes import data_notes
from adapterlab.lab.study.spec import Data, Study
from tests.lab.made_up import analysed, played
from tests.tasks.user_files import completions, texts, write


def study_of(tmp_path, rows, **files):
    data = Data(name="mine", train=write(tmp_path / f"{len(rows)}.jsonl", rows), **files)
    return Study(name="own", tasks=("mine",), data=(data,), contestants=({"adapter": "lora"},), training={"length": 8})


def test_rows_that_are_shared_or_too_long_are_told(tmp_path):
    scored = write(tmp_path / "e.jsonl", completions(12))
    long = [{"prompt": "a very long prompt " * 9 + str(i), "completion": "x"} for i in range(30)]
    other = [row | {"completion": "no"} for row in completions(6)]
    notes = data_notes(study_of(tmp_path, long + other, eval=scored))
    assert "mine: 30 of 36 rows of train have more than 8 tokens: their start is left out." in notes
    assert sum("the prompt of a row" in note for note in notes) >= 1


def test_clean_data_and_data_of_other_tasks_need_no_words(tmp_path):
    study = study_of(tmp_path, texts(40))
    assert data_notes(study) == ()
    other = study_of(tmp_path, [{"prompt": "word " * 50 + str(i), "completion": "x"} for i in range(30)])
    assert data_notes(other)
    assert data_notes(other.model_copy(update={"tasks": ("prose",)})) == ()


def test_the_report_has_them_among_its_remarks():
    analysis = analysed(played(("lora", "oft"), gains={"lora": 0.1, "oft": 0.2}))
    assert replace(analysis, notes=("mine: a note.",)).remarks[-1] == "mine: a note."
