"""Rows that a file can hold and a task cannot use, and how rows are divided: each is one line, never a traceback."""

from __future__ import annotations

import io
import json
import time

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapterlab.errors import AdapterlabError
from adapterlab.models.loading import load_causal
from adapterlab.tasks import user_text
from adapterlab.tasks.base import Part
from adapterlab.tasks.files import FileData, task_of
from adapterlab.tasks.parts import _READ, parts_of
from adapterlab.tasks.rows import Row, read
from adapterlab.tasks.truncation import truncations
from adapterlab.tasks.user_labels import images
from tests.tasks.user_files import chats, completions, labelled, texts, write


def refused(path, message, act=read):
    with pytest.raises(AdapterlabError, match=message) as caught:
        act(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["\\ud800", "a\\udfffb"])
@pytest.mark.parametrize(
    "row",
    [
        '{"text": "%s"}',
        '{"prompt": "%s", "completion": "a"}',
        '{"text": "a", "label": "%s"}',
        '{"messages": [{"role": "assistant", "content": "%s"}]}',
    ],
)
def test_half_a_character_is_refused(text, row, tmp_path):
    (tmp_path / "a.jsonl").write_text(row % text)
    refused(tmp_path / "a.jsonl", r"a\.jsonl:1: '\w+' holds \\ud[8f]")


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
@pytest.mark.parametrize("text", ["[" * 100_000, '{"text": ' + '{"a": ' * 100_000])
def test_deep_json_is_refused(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    refused(tmp_path / name, "nested too deeply|not JSON")


def test_a_number_of_thousands_of_digits_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": %s}' % ("9" * 5000))
    refused(tmp_path / "a.jsonl", "not JSON")


def test_parquet_with_text_that_is_not_utf8_is_refused(tmp_path):
    broken = pyarrow.array([b"fine", b"\xff\xfe"]).view(pyarrow.string())
    pyarrow.parquet.write_table(pyarrow.table({"text": broken}), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", r"a\.parquet(:| row 1)")


def test_a_missing_image_is_refused(tmp_path):
    def divide(path):
        parts_of(FileData("m", path))

    rows = [{"image": str(tmp_path / f"{i}.png"), "label": "ab"[i % 2]} for i in range(12)]
    path = write(tmp_path / "a.jsonl", rows)
    refused(path, r"a\.jsonl:1: the image .*0\.png' cannot be read \(No such file", divide)
    path = write(tmp_path / "b.jsonl", [row | {"image": "a\0b"} for row in rows])
    refused(path, r"b\.jsonl:1: the image .* cannot be read", divide)


@pytest.mark.parametrize("side", [11_000, 20_000])
def test_an_image_that_would_fill_the_memory_is_refused(side):
    image = pytest.importorskip("PIL.Image")
    file = io.BytesIO()
    image.new("1", (side, side)).save(file, "png")
    assert len(file.getvalue()) < 200_000
    rows = [Row("a:1", {"image": file.getvalue()})]
    refused(rows, "more than 100,000,000|decompression bomb", lambda rows: images(rows, lambda *_, **__: None))


def test_a_chat_template_that_loops_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(user_text, "RENDERING", 0.3)
    tokenizer = load_causal().tokenizer
    tokenizer.chat_template = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
    task = task_of(FileData("mine", write(tmp_path / "a.jsonl", chats(20))))
    began = time.monotonic()
    with pytest.raises(AdapterlabError, match=r"chat template runs for more than 0\.3 s"):
        task.examples(Part.TEST, tokenizer, 64, 4)
    assert time.monotonic() - began < 60  # without the limit: days


# --- the division ---


def labels_of(parts, part):
    return {row.values["label"] for row in parts.rows[part]}


def test_a_small_class_is_in_every_part(tmp_path):
    rows = [{"text": f"row {i}", "label": "a"} for i in range(199)]
    rows += [{"text": f"rare {i}", "label": "b"} for i in range(3)]
    parts = parts_of(FileData("mine", write(tmp_path / "a.jsonl", rows)))
    assert {part: labels_of(parts, part) for part in parts.rows} == {part: {"a", "b"} for part in parts.rows}
    assert parts.notes == []


def test_a_class_of_one_row_is_trained_and_named(tmp_path):
    """Sorted by label, 199 to 1: the class of one row cannot be scored."""
    rows = [{"text": f"row {i}", "label": "a" if i < 199 else "b"} for i in range(200)]
    data = FileData("mine", write(tmp_path / "a.jsonl", rows))
    assert task_of(data).head.labels == ("a", "b")
    assert len(parts_of(data).notes) == 2
    assert all("too few rows with the label 'b'" in note for note in parts_of(data).notes)


def test_classes_keep_their_shares(tmp_path):
    parts = parts_of(FileData("mine", write(tmp_path / "a.jsonl", labelled(200)))).rows
    for part, size in ((Part.VALIDATION, 20), (Part.TEST, 40), (Part.TRAIN, 140)):
        labels = [row.values["label"] for row in parts[part]]
        assert len(labels) == size
        assert labels.count("up") == size // 2


def test_rows_that_resemble_scored_ones_are_counted(tmp_path):
    scored = write(tmp_path / "e.jsonl", texts(12))
    close = [{"text": row["text"].upper().replace(",", " ;")} for row in texts(5)]
    parts = parts_of(FileData("mine", write(tmp_path / "a.jsonl", close + texts(20, start=50)), eval=scored))
    assert sum(int(note.split()[0]) for note in parts.notes) == 5
    assert all("nearly the same" in note for note in parts.notes)
    assert len(parts.rows[Part.TRAIN]) == 25


def test_shared_prompts_are_counted(tmp_path):
    scored = write(tmp_path / "e.jsonl", completions(12))
    other = [row | {"completion": "another"} for row in completions(7)]
    parts = parts_of(FileData("mine", write(tmp_path / "a.jsonl", other + completions(9, start=90)), eval=scored))
    assert sum(int(note.split()[0]) for note in parts.notes if " the prompt of " in note) == 7


def test_different_sums_are_not_alike(tmp_path):
    rows = [{"text": f"{i} {sign} {i + 1}"} for i in range(30) for sign in "+-*/"]
    assert parts_of(FileData("mine", write(tmp_path / "a.jsonl", rows))).notes == []


@pytest.mark.parametrize(
    ("rows", "lost"), [(completions(40), "start"), (labelled(40), "the rest"), (chats(40), "start")]
)
def test_rows_that_are_too_long_are_counted(rows, lost, tmp_path):
    parts = parts_of(FileData("mine", write(tmp_path / "a.jsonl", rows)))
    tokenizer = load_causal().tokenizer
    assert truncations(parts.rows, parts.form, tokenizer, 1000) == []
    notes = truncations(parts.rows, parts.form, tokenizer, 2)
    assert len(notes) == 3
    assert all("have more than 2 tokens" in note and lost in note for note in notes)


# --- a fuzz ---

KEYS = st.sampled_from(["text", "prompt", "completion", "messages", "label", "image", "role", "content", "x"])
TEXT = st.text(max_size=6) | st.sampled_from(["\ud800", "\0", "=cmd", "[/b]", "assistant", "user", "9" * 400, ""])
LEAVES = TEXT | st.none() | st.booleans() | st.integers(-(10**400), 10**400) | st.floats()
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]) | LEAVES, "content": LEAVES})
VALUES = LEAVES | st.lists(MESSAGE | LEAVES, max_size=3)
FUZZ = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


def many_rows(row):
    """Twelve rows like one, so that a division is tried."""
    return [{key: f"{value} {i}" if isinstance(value, str) else value for key, value in row.items()} for i in range(12)]


CASES = st.lists(st.dictionaries(KEYS, VALUES, max_size=3), min_size=1, max_size=4)
CASES |= st.dictionaries(KEYS, VALUES, min_size=1, max_size=3).map(many_rows)


def check_rows(path, rows, tokenizer):
    """The file is divided and encoded, or refused in one line."""
    path.write_text("\n".join(map(json.dumps, rows)))
    _READ.clear()
    said = ""
    try:
        task = task_of(FileData("mine", str(path)))
        _ = task.head
        for part in (Part.TRAIN, Part.TEST):
            task.examples(part, tokenizer, 32, 8)
    except AdapterlabError as error:
        said = str(error)
    assert "\n" not in said


@pytest.fixture(scope="module")
def chatty():
    tokenizer = load_causal().tokenizer
    tokenizer.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}{% endfor %}"
    return tokenizer


@settings(max_examples=200, **FUZZ)
@given(rows=CASES)
def test_no_rows_break_the_reader(tmp_path_factory, chatty, rows):
    check_rows(tmp_path_factory.getbasetemp() / "fuzz.jsonl", rows, chatty)


@pytest.mark.soak
@settings(max_examples=10_000, **FUZZ)
@given(rows=CASES)
def test_none_of_many_rows_break_the_reader(tmp_path_factory, chatty, rows):
    check_rows(tmp_path_factory.getbasetemp() / "fuzz.jsonl", rows, chatty)


@settings(max_examples=100, **FUZZ)
@given(content=st.binary(max_size=60), name=st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.parquet"]))
def test_no_bytes_break_the_reader(tmp_path_factory, content, name):
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    said = ""
    try:
        read(path)
    except AdapterlabError as error:
        said = str(error)
    assert "\n" not in said
