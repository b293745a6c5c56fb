"""Tables of results: what can be read, and what is refused with the line and the column."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapterlab.errors import AdapterlabError
from adapterlab.evidence import Store, read_table
from adapterlab.evidence.table import Score, Table, write_table

HEAD = "model,parameters,task,method,value\n"
ROW = "Q,6e8,math,lora,48.1\n"


def read(tmp_path, text, name="mine.csv"):
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return read_table(file)


def test_a_short_table_has_the_defaults_of_an_accuracy(tmp_path):
    (score,) = read(tmp_path, HEAD + ROW).scores
    assert (score.source, score.metric, score.unit, score.better, score.smallest) == (
        "mine",
        "in_domain",
        "accuracy, %",
        "higher",
        1,
    )
    assert (score.tuned, score.learning_rate, score.variance) == (None, None, 1.0)


def test_a_column_may_stand_above_the_header(tmp_path):
    table = read(
        tmp_path, "# title: Mine\n# model: Q\n# parameters: 6e8\n# better: lower\ntask,method,value\nm,lora,1\n"
    )
    assert table.about == {"title": "Mine"}
    assert (table.scores[0].model, table.scores[0].parameters, table.scores[0].better) == ("Q", 6e8, "lower")


def test_a_byte_order_mark_and_empty_lines_are_read_over(tmp_path):
    assert len(read(tmp_path, "\ufeff" + HEAD + ROW + "\n,,,,\n" + ROW).scores) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        (HEAD, "has no rows"),
        ("model,task\nQ,math\n", "line 2: parameters is missing"),
        (HEAD + "Q,6e8,math,lora,good\n", "line 2: value is 'good'"),
        (HEAD + "Q,6e8,math,lora,nan\n", "line 2: value is 'nan'"),
        (HEAD + "Q,-1,math,lora,1\n", "line 2: parameters is '-1'"),
        (HEAD + ROW + "Q,6e8,math,lora\n", "line 3: not as many values as columns"),
        (HEAD + "Q,6e8,math,lora,1,2\n", "line 2: not as many values as columns"),
        (HEAD.replace("value", "score") + ROW, "line 1: did you mean source"),
        ("# modell: Q\n" + HEAD + ROW, "unknown column 'modell'"),
        ("# model: Q\n" + HEAD + ROW, "model is given twice"),
        (HEAD.replace("task", "model") + ROW, "model is given twice"),
        ("metric," + HEAD + "in_domian," + ROW, "unknown metric 'in_domian'"),
        ("tuned," + HEAD + "maybe," + ROW, "tuned is 'maybe'"),
        ("unit," + HEAD + "%," + ROW + "nats," + ROW, "must share them"),
        (HEAD + '"Q,6e8,math,lora,1\n', "line"),
    ],
)
def test_a_mistake_names_the_file_and_the_place(tmp_path, text, message):
    with pytest.raises(AdapterlabError) as error:
        read(tmp_path, text)
    assert "mine.csv" in str(error.value)
    assert message in str(error.value)


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path):
    with pytest.raises(AdapterlabError, match="cannot be read"):
        read_table(tmp_path / "no.csv")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(AdapterlabError, match="cannot be read"):
        read_table(tmp_path / "b.csv")


NAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1).filter(lambda s: s == s.strip() != "#")
SCORES = st.builds(
    Score,
    source=st.just("mine"),
    model=st.just("Q"),
    parameters=st.just(6e8),
    task=NAMES,
    method=NAMES,
    value=st.floats(-1e3, 1e3).map(lambda v: float(f"{v:.6g}")),
    learning_rate=st.none() | st.floats(1e-6, 1).map(lambda v: float(f"{v:.6g}")),
    tuned=st.none() | st.booleans(),
    seeds=st.integers(1, 9),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SCORES, min_size=1, max_size=6))
def test_what_is_written_is_read_again(tmp_path, scores):
    found = read(tmp_path, write_table(Table("mine", tuple(scores), {"title": "T"})))
    assert found.scores == tuple(scores)


def test_a_folder_adds_to_the_tables_of_the_package_and_may_replace_one(tmp_path):
    store = Store(tmp_path / "new")
    shipped = {table.source for table in Store().tables}
    assert {table.source for table in store.tables} == shipped
    store.add(read(tmp_path, HEAD + ROW))
    store.add(read(tmp_path, HEAD + ROW, "peft-arena.csv"))
    again = Store(tmp_path / "new")
    assert {table.source for table in again.tables} == shipped | {"mine"}
    assert len(next(table for table in again.tables if table.source == "peft-arena").scores) == 1


def test_a_store_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AdapterlabError, match="no folder"):
        _ = Store(tmp_path / "file").tables
    with pytest.raises(AdapterlabError, match="cannot be written"):
        Store(tmp_path / "file").add(read(tmp_path, HEAD + ROW))
