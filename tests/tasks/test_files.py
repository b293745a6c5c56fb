"""Tasks made from a user's files: reading, division into parts, scored tokens, and errors."""

from __future__ import annotations

import csv
import itertools
import json

import pytest
import torch

from adapterlab.errors import AdapterlabError
from adapterlab.models.loading import CAUSAL, load_causal
from adapterlab.tasks.base import Part
from adapterlab.tasks.files import FileData, task_of
from adapterlab.tasks.parts import parts_of
from adapterlab.tasks.rows import Form, read
from tests.tasks.user_files import TEMPLATE, chats, completions, labelled, texts, write

SCORED = (Part.TRAIN, Part.VALIDATION, Part.TEST)


@pytest.fixture(scope="module")
def tokenizer():
    return load_causal().tokenizer


@pytest.fixture
def chatty():
    tokenizer = load_causal().tokenizer
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def scored_text(examples, tokenizer) -> list[str]:
    """Return the scored text of each example, in order."""
    pairs = zip(examples.inputs["input_ids"], examples.inputs["scored"], strict=True)
    return [tokenizer.decode(ids[marks], skip_special_tokens=True) for ids, marks in pairs]


@pytest.mark.parametrize(
    ("rows", "form"),
    [
        (texts(12), Form.TEXT),
        (completions(12), Form.COMPLETION),
        (chats(12), Form.CHAT),
        (labelled(12), Form.LABEL),
    ],
)
def test_jsonl_parquet_and_folders_hold_the_same_rows(tmp_path, rows, form):
    import datasets
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "folder").mkdir()
    (tmp_path / "shards").mkdir()
    write(tmp_path / "a.jsonl", rows)
    write(tmp_path / "folder" / "1.jsonl", rows[:5])
    write(tmp_path / "folder" / "2.jsonl", rows[5:])
    (tmp_path / "a.json").write_text(json.dumps(rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "shards" / "a.parquet")
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "saved"))
    for name in ("a.jsonl", "a.json", "folder", "shards", "saved"):
        found, read_back = read(tmp_path / name)
        assert found is form
        assert [row.values for row in read_back] == rows


def test_csv_with_quotes_and_line_breaks(tmp_path):
    rows = [{"prompt": 'a, "b"\nc', "completion": str(i)} for i in range(3)]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(rows)
    form, found = read(tmp_path / "a.csv")
    assert form is Form.COMPLETION
    assert [row.values for row in found] == rows
    assert found[1].place.endswith("a.csv:5")


def test_class_names_of_a_saved_dataset_are_its_labels(tmp_path):
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features).save_to_disk(str(tmp_path / "d"))
    assert [row.values["label"] for row in read(tmp_path / "d")[1]] == ["no", "yes"]


BAD = {
    "broken json": ('{"text": "a"}\n{"text": "b"\n', r"bad.jsonl:2: not JSON .* each line must be one object"),
    "no object": ('["a"]\n', r"bad.jsonl:1: a list is not a row"),
    "missing keys": ('{"text": "a"}\n{"txt": "b"}\n', r"bad.jsonl:2: has 'txt': a row needs 'text', or 'prompt'"),
    "half a pair": ('{"prompt": "a"}\n', r"bad.jsonl:1: has 'prompt': a row needs"),
    "mixed": (
        '{"text": "a"}\n\n{"prompt": "b", "completion": "c"}\n',
        r"bad.jsonl:3: a row of prompt and completion, but",
    ),
    "number": ('{"text": 5}\n', r"bad.jsonl:1: 'text' is 5, not a string"),
    "empty": ("\n\n", r"bad.jsonl holds no rows"),
    "empty text": ('{"text": " "}\n', r"bad.jsonl:1: 'text' is empty"),
    "empty completion": ('{"prompt": "a", "completion": ""}\n', r"bad.jsonl:1: 'completion' is empty"),
    "label": ('{"text": "a", "label": 0.5}\n', r"bad.jsonl:1: label 0.5 is not a class"),
    "messages": ('{"messages": "hi"}\n', r"bad.jsonl:1: 'messages' must be a list of"),
    "nobody answers": (
        '{"messages": [{"role": "user", "content": "hi"}]}\n',
        r"bad.jsonl:1: the assistant has no turn",
    ),
    "utf-8": (b'{"text": "a"}\n{"text": "\xe9"}\n', r"bad.jsonl:2: not UTF-8 \(byte 0xe9\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_in_a_file_is_named_with_its_line(tmp_path, name):
    content, message = BAD[name]
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(AdapterlabError, match=message):
        read(path)


def test_other_mistakes_are_named(tmp_path):
    with pytest.raises(AdapterlabError, match="does not exist"):
        read(tmp_path / "nothing.jsonl")
    (tmp_path / "a.docx").write_text("a")
    with pytest.raises(AdapterlabError, match=r"files of type \.docx cannot be read"):
        read(tmp_path / "a.docx")
    (tmp_path / "a.csv").write_text("text,label\na,b,c\n")
    with pytest.raises(AdapterlabError, match=r"a.csv:2: 3 columns where the first line names 2"):
        read(tmp_path / "a.csv")
    (tmp_path / "a.parquet").write_text("no")
    with pytest.raises(AdapterlabError, match="not Parquet"):
        read(tmp_path / "a.parquet")


def test_a_dataset_of_several_splits_names_them(tmp_path):
    import datasets

    split = datasets.Dataset.from_list(texts(3))
    datasets.DatasetDict({"train": split, "test": split}).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(AdapterlabError, match=r"holds several datasets: give one of .*test.*train"):
        read(tmp_path / "d")


def test_equal_rows_are_in_one_part(tmp_path):
    rows = completions(40)
    data = FileData("mine", write(tmp_path / "a.jsonl", rows + rows[:20] + rows[:10]))
    parts = parts_of(data).rows
    contents = {part: {row.content for row in parts[part]} for part in SCORED}
    assert all(contents.values())
    for a, b in itertools.combinations(SCORED, 2):
        assert not contents[a] & contents[b]
    assert sum(len(parts[part]) for part in SCORED) == 70
    assert len(contents[Part.TRAIN]) == 28


def test_the_parts_depend_on_the_content_and_not_on_the_order(tmp_path):
    rows = completions(40)
    a = FileData("mine", write(tmp_path / "a.jsonl", rows))
    b = FileData("mine", write(tmp_path / "b.jsonl", rows[::-1]))
    for part in SCORED:
        assert {r.content for r in parts_of(a).rows[part]} == {r.content for r in parts_of(b).rows[part]}
    assert task_of(a).fingerprint() != task_of(b).fingerprint()


def test_rows_that_are_also_in_another_file_are_not_trained_on(tmp_path):
    data = FileData(
        "mine",
        train=write(tmp_path / "train.jsonl", completions(300)),
        eval=write(tmp_path / "eval.jsonl", completions(200, 298)),
        ood=write(tmp_path / "ood.jsonl", [*completions(1), *completions(120, 1000)]),
        keep=write(tmp_path / "keep.jsonl", completions(4, 10)),
    )
    parts = parts_of(data)
    assert len(parts.rows[Part.TRAIN]) == 300 - 2 - 1 - 4
    assert len(parts.rows[Part.VALIDATION]) + len(parts.rows[Part.TEST]) == 200
    assert sum("left out" in note for note in parts.notes) in (3, 4)  # the two may be in one part or in two
    assert task_of(data).parts == (Part.VALIDATION, Part.TEST, Part.OOD, Part.BASE)


def test_too_few_rows_and_another_form_are_named(tmp_path):
    with pytest.raises(AdapterlabError, match=r"has 9 different rows, too few .* give at least 10"):
        parts_of(FileData("mine", write(tmp_path / "a.jsonl", texts(9) * 3)))
    train = write(tmp_path / "train.jsonl", texts(20))
    with pytest.raises(AdapterlabError, match=r"eval.jsonl holds prompt and completion, but .* holds text"):
        parts_of(FileData("mine", train, eval=write(tmp_path / "eval.jsonl", completions(5))))
    with pytest.raises(AdapterlabError, match=r"20 of its 20 rows \(100%\) are also in .*train.jsonl"):
        parts_of(FileData("mine", train, eval=train))
    with pytest.raises(AdapterlabError, match="every row is also in a part that is scored"):
        parts_of(FileData("mine", train, keep=train))


@pytest.mark.parametrize("role", ["eval", "ood"])
def test_scored_files_that_share_more_than_a_hundredth_with_training_are_refused(tmp_path, role):
    train = write(tmp_path / "train.jsonl", completions(100))
    for shared, allowed in ((2, True), (20, False)):
        data = FileData("mine", train, **{role: write(tmp_path / f"{shared}.jsonl", completions(200, 100 - shared))})
        if allowed:
            assert parts_of(data).rows[Part.TRAIN]
        else:
            with pytest.raises(AdapterlabError, match=r"\d+ of its 200 rows \(\d+%\) are also in .*train.jsonl"):
                parts_of(data)


def test_texts_are_cut_to_windows_that_hold_all_of_them(tmp_path, tokenizer):
    long = [{"text": f"start {i} " + "word " * 60} for i in range(20)]
    data = FileData("mine", write(tmp_path / "a.jsonl", long))
    examples = task_of(data).examples(Part.TRAIN, tokenizer, 24, 10**6)
    rows = parts_of(data).rows[Part.TRAIN]
    ids = examples.inputs["input_ids"]
    assert ids.shape[1] <= 24
    tokens = sum(len(t) + 1 for t in tokenizer([r.values["text"] for r in rows], add_special_tokens=False)["input_ids"])
    lone = tokens - len(ids) - int(examples.inputs["scored"].sum())
    assert 0 <= lone <= len(rows)  # a window of one token has nothing to score
    assert examples.size == sum(len(text.encode()) for text in scored_text(examples, tokenizer))


def test_only_completions_are_scored_and_counted(tmp_path, tokenizer):
    data = FileData("mine", write(tmp_path / "a.jsonl", completions(20)))
    examples = task_of(data).examples(Part.TRAIN, tokenizer, 32, 100)
    expected = sorted(row.values["completion"] for row in parts_of(data).rows[Part.TRAIN])
    assert sorted(scored_text(examples, tokenizer)) == expected
    assert examples.size == sum(map(len, expected))


def test_only_the_assistant_is_scored(tmp_path, chatty):
    data = FileData("mine", write(tmp_path / "a.jsonl", chats(20)))
    examples = task_of(data).examples(Part.TRAIN, chatty, 128, 100)
    rows = parts_of(data).rows[Part.TRAIN]
    expected = sorted(
        "".join(f"{m['content']}<|end|>" for m in row.values["messages"] if m["role"] == "assistant") for row in rows
    )
    assert sorted(scored_text(examples, chatty)) == expected


def test_a_template_that_changes_earlier_turns_makes_an_example_of_each_answer(tmp_path, chatty):
    chatty.chat_template = TEMPLATE.replace(
        "{{ m['content'] }}<|end|>",
        "{{ m['content'] }}{% if m['role'] == 'assistant' and loop.last %} (thought){% endif %}<|end|>",
    )
    data = FileData("mine", write(tmp_path / "a.jsonl", chats(20)))
    examples = task_of(data).examples(Part.TRAIN, chatty, 128, 100)
    found = scored_text(examples, chatty)
    assert len(found) == 2 * len(parts_of(data).rows[Part.TRAIN])
    assert all(text.endswith(" (thought)<|end|>") and text.count("<|end|>") == 1 for text in found)


def test_chats_without_a_template_are_named(tmp_path, tokenizer):
    data = FileData("mine", write(tmp_path / "a.jsonl", chats(20)))
    with pytest.raises(AdapterlabError, match=r"a.jsonl:\d+: 'messages' need a chat template"):
        task_of(data).examples(Part.TRAIN, tokenizer, 128, 100)


def test_a_completion_that_does_not_fit_is_named_with_its_line(tmp_path, tokenizer):
    rows = [*completions(20), {"prompt": "a", "completion": "many words " * 40}]
    data = FileData("mine", write(tmp_path / "a.jsonl", rows), eval=write(tmp_path / "e.jsonl", completions(4, 50)))
    with pytest.raises(AdapterlabError, match=r"a.jsonl:21: the answer has \d+ tokens, more than the 31 that fit"):
        task_of(data).examples(Part.TRAIN, tokenizer, 32, 100)


def test_a_long_prompt_loses_its_start(tmp_path, tokenizer):
    rows = [{"prompt": f"{'x ' * 90}{i} gives ", "completion": f"{i}"} for i in range(20)]
    data = FileData("mine", write(tmp_path / "a.jsonl", rows))
    examples = task_of(data).examples(Part.TRAIN, tokenizer, 32, 100)
    assert examples.inputs["input_ids"].shape[1] == 32
    first = tokenizer.decode(examples.inputs["input_ids"][0])
    assert "gives" in first


def test_the_beginning_of_text_token_is_kept(tmp_path, tokenizer):
    class Opening:
        bos_token_id, eos_token_id, pad_token_id, chat_template = 7, tokenizer.eos_token_id, None, None

        def __call__(self, text, add_special_tokens):
            found = tokenizer(text, add_special_tokens=False)["input_ids"]
            return {"input_ids": [[7, *ids] if add_special_tokens else ids for ids in found]}

        batch_decode = staticmethod(tokenizer.batch_decode)

    for rows in (completions(20), texts(20)):
        data = FileData("mine", write(tmp_path / f"{len(rows[0])}.jsonl", rows))
        examples = task_of(data).examples(Part.TEST, Opening(), 64, 100)
        assert (examples.inputs["input_ids"][:, 0] == 7).all()
        assert not examples.inputs["scored"][:, 0].any()


def test_more_examples_are_a_superset(tmp_path, tokenizer):
    task = task_of(FileData("mine", write(tmp_path / "a.jsonl", texts(60))))
    few, many = (scored_text(task.examples(Part.TRAIN, tokenizer, 64, count), tokenizer) for count in (8, 16))
    assert many[:8] == few


def test_labels_are_those_of_the_training_rows(tmp_path, tokenizer):
    data = FileData("mine", write(tmp_path / "a.jsonl", labelled(40)))
    task = task_of(data)
    assert task.head.kind == "sequence"
    assert task.head.labels == ("down", "up")
    assert task.parts == (Part.VALIDATION, Part.TEST)
    examples = task.examples(Part.TEST, tokenizer, 64, 100)
    assert len(examples) == examples.size == len(parts_of(data).rows[Part.TEST])
    for ids, mask, label in zip(*examples.inputs.values(), strict=True):
        text = tokenizer.decode(ids[mask.bool()])
        assert label == (1 if "good" in text else 0)


def test_wrong_labels_are_named(tmp_path, tokenizer):
    train = write(tmp_path / "a.jsonl", labelled(40))
    strange = write(tmp_path / "e.jsonl", [{"text": "x", "label": "upp"}, {"text": "y", "label": "upp"}])
    with pytest.raises(AdapterlabError, match=r"unknown label 'upp' in .*e.jsonl:\d: did you mean up\?"):
        task_of(FileData("mine", train, eval=strange)).examples(Part.TEST, tokenizer, 64, 100)
    alike = write(tmp_path / "b.jsonl", [row | {"label": "up"} for row in labelled(40)])
    with pytest.raises(AdapterlabError, match="every training row has the label 'up'"):
        _ = task_of(FileData("mine", alike)).head
    numbered = write(tmp_path / "c.jsonl", [row | {"label": i} for i, row in enumerate(labelled(40))])
    with pytest.raises(AdapterlabError, match="28 labels on 28 rows are too many for classes"):
        _ = task_of(FileData("mine", numbered)).head


def test_images_of_a_folder_are_named_by_their_folders(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for name, shade in (("dark", 20), ("light", 220)):
        (tmp_path / name).mkdir()
        for i in range(10):
            image.new("L", (6, 6), shade + i).save(tmp_path / name / f"{i}.png")
    form, rows = read(tmp_path)
    assert form is Form.IMAGE
    assert {row.values["label"] for row in rows} == {"dark", "light"}

    def processor(picture, return_tensors):
        assert picture.mode == "RGB"
        return {"pixel_values": torch.tensor([picture.getpixel((0, 0))])[None] / 255}

    task = task_of(FileData("mine", str(tmp_path)))
    examples = task.examples(Part.TRAIN, processor, 1, 100)
    bright = examples.inputs["pixel_values"][:, 0, 0] > 0.5
    assert torch.equal(bright.long(), examples.inputs["labels"])


def test_a_damaged_image_is_named(tmp_path):
    pytest.importorskip("PIL")
    (tmp_path / "a").mkdir()
    for i in range(12):
        (tmp_path / "a" / f"{i}.png").write_bytes(b"no image %d" % i)
    rows = read(tmp_path)[1]
    from adapterlab.tasks.user_labels import images

    with pytest.raises(AdapterlabError, match=r"\.png: cannot be read as an image"):
        images(rows[:1], lambda *_, **__: None)


def test_a_text_task_is_for_a_causal_model(tmp_path):
    assert task_of(FileData("mine", write(tmp_path / "a.jsonl", texts(20)))).head == CAUSAL
