"""The page for users of PEFT: its code runs, and its names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import adapterlab

TEXT = (Path(__file__).parent.parent / "docs/coming-from-peft.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.filterwarnings("ignore:the adapter attached before is frozen")
@pytest.mark.filterwarnings("ignore:.*pin_memory.*")
@pytest.mark.filterwarnings("ignore:Adapter name 'a' should not be contained")
def test_its_code_runs_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"block {number} of coming-from-peft.md", "exec"), names)
    assert len(BLOCKS) >= 8


@pytest.mark.parametrize("name", sorted(set(re.findall(r"adapterlab\.([A-Za-z_]+)\(", TEXT))))
def test_its_names_exist(name):
    assert name in adapterlab.__all__


@pytest.mark.parametrize("start", re.findall(r'start="(\w+)"', TEXT))
def test_its_starts_exist(start):
    assert adapterlab.adapter("lora", start=start)
