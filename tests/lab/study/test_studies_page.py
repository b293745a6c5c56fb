"""`docs/studies.md` has every key of a study with its default, and its example loads."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from adapterlab.lab.study.geometry import Geometry
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.spec import Contestant, Data, Limits, Reporting, Study, Training, Tuning
from adapterlab.lab.study.sweep import Sweep

PAGE = (Path(__file__).parents[3] / "docs/studies.md").read_text()
SECTIONS = re.split(r"\n(?=## Keys|`\[+\w+\]+`)", PAGE)[1:]
TABLES = {
    "## Keys": Study,
    "`[sweep]`": Sweep,
    "`[training]`": Training,
    "`[tuning]`": Tuning,
    "`[report]`": Reporting,
    "`[geometry]`": Geometry,
    "`[limits]`": Limits,
    "`[[contestants]]`": Contestant,
    "`[[data]]`": Data,
}


def rows(section: str) -> dict[str, str]:
    return dict(re.findall(r"^\| `(\w+)` \|\s*(.*?)\s*\|", section, re.MULTILINE))


DERIVED = {"path_windows": "a quarter of `windows`, at least 8"}
"""Defaults that follow from other keys."""


@pytest.mark.parametrize("head", TABLES)
def test_every_key_is_there_with_its_default(head):
    (section,) = [text for text in SECTIONS if text.startswith(head)]
    own_section = {head.strip("`[]") for head in TABLES} if TABLES[head] is Study else set()
    fields = {key: field for key, field in TABLES[head].model_fields.items() if key not in own_section}
    assert list(rows(section)) == list(fields)
    for key, said in rows(section).items():
        field = fields[key]
        default = field.get_default(call_default_factory=True)
        if field.is_required():
            assert not said, key
        elif default is None:
            assert said == DERIVED.get(key, "none"), key
        else:
            found = tomllib.loads(f"x = {said.strip('`')}")["x"]
            assert found == (list(default) if isinstance(default, tuple) else default), key


def test_the_example_loads(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "study.toml").write_text(example)
    study = load_study(tmp_path / "study.toml")
    assert [c.name for c in study.contestants] == ["oft", "oft-by-series", "hra"]
    assert study.regret_sample == ("oft", "hra")
    assert study.contestants[1].start == 3.2e-3
