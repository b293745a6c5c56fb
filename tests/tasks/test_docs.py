"""`docs/tasks.md`: every task has scores, and they show that it can be learned."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from adapterlab.lab.study.load import load_study
from adapterlab.tasks import all_tasks, task
from adapterlab.tasks.base import Part
from tests.lab.tiny import save_study

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/tasks.md").read_text()
RESULTS = {file.stem: json.loads(file.read_text()) for file in (ROOT / "benchmarks/results/tasks").glob("*.json")}

SHIPPED = [name for name in all_tasks() if type(task(name)).__module__.startswith("adapterlab.")]


def test_every_task_has_a_section_with_its_explanation():
    assert set(re.findall(r"^## `(\w+)`", PAGE, re.MULTILINE)) == set(SHIPPED)
    for name in SHIPPED:
        assert task(name).explanation in PAGE


@pytest.mark.parametrize("name", SHIPPED)
def test_full_fine_tuning_learns_what_the_frozen_model_does_not_know(name):
    scores = RESULTS[name]["scores"]
    frozen, bigram, full = (scores[contestant][Part.TEST][0] for contestant in ("frozen", "bigram", "full_ft"))
    assert full < min(frozen, bigram)
    assert scores["full_ft"][Part.BASE][0] > scores["frozen"][Part.BASE][0]
    row = re.search(rf"## `{name}`.*?\| full fine-tuning \| (-?[\d.]+) ", PAGE, re.DOTALL)
    assert float(row[1]) == pytest.approx(full, abs=5e-4)


def test_the_task_of_the_guide_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "mine.py").write_text(code)
    study = save_study(tmp_path)
    text = study.read_text().replace('tasks = ["prose"]', 'tasks = ["shout"]\ntask_files = ["mine.py"]')
    study.write_text(text)
    assert load_study(study, trust=True).tasks == ("shout",)
    assert [c.completion for c in task("shout").completions(Part.OOD)] == [" OLD CAT"]
