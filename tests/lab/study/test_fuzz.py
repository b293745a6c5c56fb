"""Any text in place of a study is a study, or one line that says what is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapterlab.errors import AdapterlabError
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.spec import Contestant, Data, Limits, Reporting, Study, Training, Tuning
from adapterlab.lab.study.sweep import Sweep

KNOWN = [
    "lora",
    "oft",
    "ia3",
    "full_ft",
    "frozen",
    "prose",
    "restyle",
    "all",
    "embedded",
    "all-linear",
    "q_proj",
    "auto",
]
TEXT = st.text(max_size=5) | st.sampled_from([*KNOWN, "a\0b", "ia3[/b]", "../x", "x" * 3000, "\u202e", "peft:LORA"])
NUMBERS = st.integers(-3, 70) | st.integers(-(10**400), 10**400) | st.floats()
LEAVES = TEXT | NUMBERS | st.booleans()
NAMED = st.sampled_from(KNOWN) | st.text(max_size=3)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMED, inner, max_size=2),
    max_leaves=5,
)
TABLES = {"training": Training, "tuning": Tuning, "report": Reporting, "limits": Limits, "sweep": Sweep}
TABLES |= {"contestants": Contestant, "data": Data}
SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None, "derandomize": True}


def toml(value):
    """A value as TOML."""
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return str(value)
        case str():
            return json.dumps(value).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(map(toml, value))}]"
    return "{" + ", ".join(f"{json.dumps(key)} = {toml(inner)}" for key, inner in value.items()) + "}"


def some_of(model):
    fields = st.sampled_from([*model.model_fields, "unknown"])
    return st.dictionaries(fields, VALUES, max_size=2)


@st.composite
def studies(draw):
    """A valid study with some keys of it, and of one table, replaced."""
    study = {"name": "mine", "tasks": ["prose"], "contestants": [{"adapter": "lora"}, {"adapter": "oft"}]}
    study |= draw(some_of(Study))
    table = draw(st.sampled_from([*TABLES, None]))
    if table in ("contestants", "data"):
        base = {"adapter": "ia3"} if table == "contestants" else {"name": "sums", "train": "sums.jsonl"}
        study[table] = [{"adapter": "lora"}, base | draw(some_of(TABLES[table]))][table == "data" :]
    elif table is not None:
        study[table] = draw(some_of(TABLES[table]))
    return "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in study.items())


def check(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "study.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    said = ""
    try:
        load_study(path)
    except AdapterlabError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said) < 4000


@settings(max_examples=200, **SETTINGS)
@given(text=studies())
def test_no_study_breaks_the_reader(tmp_path_factory, text):
    check(tmp_path_factory, text)


@pytest.mark.soak
@settings(max_examples=10_000, **SETTINGS)
@given(text=studies())
def test_no_study_of_many_breaks_the_reader(tmp_path_factory, text):
    check(tmp_path_factory, text)


@settings(max_examples=50, **SETTINGS)
@given(text=st.binary(max_size=80))
def test_no_bytes_break_the_reader(tmp_path_factory, text):
    check(tmp_path_factory, text)
