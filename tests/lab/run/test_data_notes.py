"""Notes on a study's own data are in the plan and in the report."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.data_notes import data_notes
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.study.spec import Data, Study
from adapterlab.models.loading import load_causal
from adapterlab.tasks.base import Part
from adapterlab.tasks.files import task_of
from tests.lab.made_up import analysed, played
from tests.lab.tiny import save_model
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


def answered(tmp_path, length: int, **files) -> Study:
    """Test and out-of-domain prompts, every third of them much longer than the tiny model's context of 64 tokens."""
    rows = [{"prompt": "word " * (length if i % 3 == 0 else 2) + str(i), "completion": "x"} for i in range(60)]
    model = save_model(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 64}))
    study = study_of(tmp_path, rows, metric="contains", **files)
    return study.model_copy(update={"model": str(model)})


def test_prompts_that_leave_no_room_for_an_answer_are_counted(tmp_path):
    study = answered(tmp_path, 100, max_new_tokens=20)
    asked = task_of(study.data[0].files).questions(Part.TEST, load_causal(study.model).tokenizer, 48)
    cut = sum(len(question.ids) > 44 for question in asked)
    assert 0 < cut < len(asked)
    noted = (
        f"mine: {cut} of {len(asked)} prompts of test that are answered have more than the 44 tokens that the model's"
    )
    assert sum(note.startswith(noted) and note.endswith("their start is left out.") for note in data_notes(study)) == 1
    prepare(study)


def test_prompts_of_which_none_fits_are_refused_before_anything_runs(tmp_path):
    study = answered(tmp_path, 100, max_new_tokens=63)
    with pytest.raises(
        AdapterlabError, match=r"mine: \d+ of \d+ prompts .* the 1 tokens .*: give shorter prompts"
    ) as error:
        prepare(study)
    assert "\n" not in str(error.value)
    longer = study.model_copy(update={"data": (study.data[0].model_copy(update={"max_new_tokens": 64}),)})
    with pytest.raises(AdapterlabError, match=r"max_new_tokens is 64, but the model's context has 64 tokens"):
        prepare(longer)
