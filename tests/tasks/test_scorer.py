"""A user's scorer runs in a child process; whatever it does ends in a number or in one line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from adapterlab.errors import ScorerError
from adapterlab.tasks.answer_metrics import Scorer
from adapterlab.tasks.scorer import Call, running

CALL = Call("four", "4", {"prompt": "2 + 2", "completion": "4", "weight": 2}, "rows.jsonl:7")


def scorer(folder: Path, body: str) -> Scorer:
    (folder / "neighbour.py").write_text("TWO = 2\n")
    (folder / "mine.py").write_text(f"import os, sys, time\ndef score(prediction, reference, row):\n    {body}\n")
    return Scorer(str(folder / "mine.py"), "score")


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("return len(prediction) * row['weight']", 8.0),
        ("return prediction == reference", 0.0),
        ("import numpy; return numpy.float32(0.5)", 0.5),
        ("from neighbour import TWO; return TWO", 2.0),
        ("from fractions import Fraction; return Fraction(1, 4)", 0.25),
    ],
)
def test_it_gets_the_answer_the_reference_and_the_row(tmp_path, body, value):
    with running(scorer(tmp_path, body)) as score:
        assert [score(CALL), score(CALL)] == [value, value]


def test_what_it_prints_is_dropped_and_it_reads_nothing(tmp_path, capfd):
    loud = scorer(tmp_path, "print('hello'); os.write(1, b'x\\n'); os.system('echo y'); return len(sys.stdin.read())")
    with running(loud) as score:
        assert [score(CALL), score(CALL)] == [0, 0]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("return 1 / 0", r"raised ZeroDivisionError: division by zero \(line 3\)"),
        ("raise KeyError('a\\nb')", r"raised KeyError: 'a\\nb' \(line 3\)"),
        ("sys.exit(3)", r"raised SystemExit: 3 \(line 3\)"),
        ("os._exit(3)", r"ended its process \(exit status 3\)"),
        ("os.kill(os.getpid(), 11)", r"ended its process \(signal 11\)"),
        ("return None", r"returned None \(NoneType\), which is not a number"),
        ("return 'yes'", r"returned 'yes' \(str\), which is not a number"),
        ("return float('nan')", "returned nan, which is not a finite number"),
        ("return 10 ** 400", "raised OverflowError"),
        ("return [0] * 10 ** 9", r"raised MemoryError \(line 3\)"),
    ],
)
def test_a_failure_is_one_line_with_the_file_the_function_and_the_row(tmp_path, body, problem):
    found = scorer(tmp_path, body)
    with running(found, memory=1 << 30) as score, pytest.raises(ScorerError, match=problem) as error:
        score(CALL)
    assert str(error.value).startswith(f"the scorer score in {found.file} on rows.jsonl:7 ")
    assert "\n" not in str(error.value)


def test_a_call_that_hangs_is_stopped_with_all_that_it_started(tmp_path):
    found = scorer(tmp_path, f"os.system('sleep 300 & echo $! > {tmp_path}/pid; wait')")
    started = time.monotonic()
    with (
        pytest.raises(ScorerError, match=r"rows.jsonl:7 ran for more than 0\.5 s and was stopped"),
        running(found, seconds=0.5) as score,
    ):
        score(CALL)
    assert time.monotonic() - started < 30
    pid = int((tmp_path / "pid").read_text())
    for _ in range(50):
        if not _runs(pid):
            break
        time.sleep(0.1)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("def score(:", r"cannot be loaded: SyntaxError"),
        ("import no_such_module", "cannot be loaded: ModuleNotFoundError: No module named 'no_such_module'"),
        ("def other(): ...", "defines no function score"),
        ("raise SystemExit", "cannot be loaded: SystemExit"),
    ],
)
def test_a_file_that_cannot_be_loaded_is_one_line(tmp_path, text, problem):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ScorerError, match=problem), running(Scorer(str(tmp_path / "mine.py"), "score")):
        pass


def test_the_child_ends_with_the_block(tmp_path):
    found = scorer(tmp_path, "return os.getpid()")
    with running(found) as score:
        pid = int(score(CALL))
        assert _runs(pid)
        assert pid != os.getpid()
    assert not _runs(pid)
