"""The metric of a study's own data: where its file is found, and mistakes with their line."""

from __future__ import annotations

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.locate import open_study, record_study
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.load import load_study
from adapterlab.trust import UntrustedCodeError
from tests.lab.answered import save_answered

SCORER = "def score(prediction, reference, row):\n    return 1.0\n"


def test_a_scorer_is_found_beside_the_study(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "mine.py").write_text(SCORER)
    study = load_study(save_answered(tmp_path, "python:lib.mine.score"), trust=True)
    task = resolve(study).tasks["mine"]
    assert task.scorer == (str(tmp_path / "lib" / "mine.py"), "score")
    assert (task.scorer.name, task.max_new_tokens) == ("python:mine.score", 8)


def test_a_task_of_a_file_may_have_a_scorer_beside_it(tmp_path):
    path = save_answered(tmp_path)
    (tmp_path / "mine.py").write_text(SCORER)
    (tmp_path / "own_task.py").write_text(
        "from adapterlab.tasks.facts import Facts\n"
        "class OwnFacts(Facts):\n"
        '    name = "own_facts"\n    metric = "python:mine.score"\n    max_new_tokens = 5\n'
    )
    text = path.read_text().replace('tasks = ["mine"]', 'tasks = ["own_facts"]\ntask_files = ["own_task.py"]')
    path.write_text(text)
    study = load_study(path, trust=True)
    assert resolve(study).tasks["own_facts"].scorer == (str(tmp_path / "mine.py"), "score")
    (tmp_path / "mine.py").write_text(SCORER.replace("1.0", "2.0"))
    with pytest.raises(UntrustedCodeError, match=r"mine.py, which is not trusted on this machine, or has changed"):
        load_study(path)


def test_results_can_be_read_without_trust_and_not_be_continued(tmp_path):
    (tmp_path / "mine.py").write_text(SCORER)
    study = load_study(save_answered(tmp_path, "python:mine.score"), trust=True)
    (tmp_path / "out").mkdir()
    record_study(study, tmp_path / "out")
    (tmp_path / "out" / "ledger.sqlite").write_bytes(b"")
    (tmp_path / "mine.py").write_text(SCORER.replace("1.0", "3.0"))
    assert open_study(tmp_path / "out", reading=True)[0] == study
    with pytest.raises(UntrustedCodeError):
        open_study(tmp_path / "out")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('metric = "exact_match"', 'metric = "bleu"', r"answered.toml:\d+: data.0.metric: metric 'bleu' is not known"),
        ('metric = "exact_match"', "", r"answered.toml:\d+: .*max_new_tokens needs a metric"),
        ("max_new_tokens = 8", "max_new_tokens = 0", r"answered.toml:\d+: data.0.max_new_tokens"),
        ("metric_rows = 6", "metric_rows = 0", r"answered.toml:\d+: report.metric_rows"),
        ('"exact_match"', '"python:gone.score"', r"metric python:gone.score: .*gone.py cannot be read \(No such file"),
        ('"exact_match"', '"python:mine.gone"', r"mine.py does not define gone: its functions are score"),
        ('"exact_match"', '"python:bad.score"', r"bad.py is not Python"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, old, new, problem):
    path = save_answered(tmp_path)
    (tmp_path / "mine.py").write_text(SCORER)
    (tmp_path / "bad.py").write_text("def score(:")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(AdapterlabError, match=problem) as error:
        load_study(path, trust=True)
    assert "\n" not in str(error.value)
