"""Locks: what changes a hash and what does not, what a check says, and how a verdict names the lock it was judged under."""

from __future__ import annotations

import io
import json
import random
import re
import sqlite3
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

import adapterlab
from adapterlab import argmap
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.spec import Training
from adapterlab.report.terminal import show
from adapterlab.resources import shipped
from adapterlab.verdict.lock import LockStatus, find_lock, lock_file, make_lock, read_lock, write_lock
from adapterlab.verdict.lock_content import changes, content_of, digest
from tests.lab.unplayed import record, study_of

BLOCKS = {
    "T": ("[T]", "the thesis holds", {"reason": '"none"', "prior": "0.3"}, ()),
    "A": (
        "[A]",
        "first claim, of two",
        {
            "reason": '"why: 3"',
            "predicted": "[0.7, 0.4]",
            "credence": "0.55",
            "n": "20",
            "source": "[Ann, Bob]",
            "test": "{better: dora, than: lora, in: in_domain, on: [prose, restyle], by: 0.01}",
        },
        ("  +> [T]",),
    ),
    "B": (
        "[B]",
        "second claim",
        {
            "predicted": "{T: [0.2, 0.6]}",
            "credence": "0.25",
            "test": "{reaches: 0.9, who: oft, of: lora, in: in_domain, on: [prose], size: 0.5}",
        },
        ("  -> [T]",),
    ),
    "U": ("", "a claim without a title", {"credence": "0.45"}, ("  _> <Arg>",)),
}
ARGUMENT = """<Arg>

(1) [P]: a premise {{reason: "x", credence: {credence}}}
----
(2) [C]: so it is {{reason: "y", inference: {inference}}}
  +> [T]
"""
FRONT = "===\nmodel:\n    mode: loose\nsources:\n    Ann: {dependence}\n===\n\n"


def plain(numbers: dict[str, str] | None = None, blocks=BLOCKS, order=None, rng: random.Random | None = None) -> str:
    """The text of a map; with a source of random numbers, formatted at random."""
    texts = [ARGUMENT.format(**({"credence": "0.6", "inference": "0.7"} | (numbers or {})))]
    for title, text, data, relations in blocks.values():
        space = (lambda: rng.choice([" ", "  ", "\n    "])) if rng else lambda: " "
        words = "".join(word + space() for word in text.split())
        items = list(data.items())
        if rng:
            rng.shuffle(items)
        shown = ", ".join(f"{key}: {rewritten(value, rng)}" for key, value in items)
        lines = [f"{title + ': ' if title else ''}{words}{{{shown}}}"]
        if rng and rng.random() < 0.5:
            lines.append("  // a comment between")
        texts.append("\n".join([*lines, *relations]) + "\n")
    if rng:
        rng.shuffle(texts)
        texts = [rng.choice(["", "// a comment\n\n", "/* of\nmore lines */\n\n", "# A heading\n\n"]) + t for t in texts]
    front = FRONT.format(dependence=(numbers or {}).get("dependence", "0.4"))
    return front + (rng.choice(["\n", "\n\n\n"]) if rng else "\n").join(texts)


def rewritten(value: str, rng: random.Random | None) -> str:
    """A number in another form: 0.70, .7 or 7.0e-1 for 0.7."""
    if rng is None:
        return value

    def other(found: re.Match[str]) -> str:
        number = float(found[0])
        return rng.choice([found[0], f"{found[0]}0", found[0].lstrip("0"), f"{10 * number:.1f}e-1"])

    return value if '"' in value else re.sub(r"\b0\.\d+", other, value)


def hash_of(text: str) -> str:
    the_map = argmap.parse(text)
    assert not [d for d in the_map.diagnostics if d.severity == "error"], the_map.diagnostics
    return digest(content_of(the_map))


LOCKED = hash_of(plain())


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_reformatting_changes_no_hash(rng):
    text = plain(rng=rng)
    assert hash_of(text) == LOCKED
    assert changes(content_of(argmap.parse(plain())), content_of(argmap.parse(text))) == []


def numbers_and_words() -> list[tuple[int, int]]:
    """Every number and word of the map that is part of its content: not of a reason, the front matter's mode or a sign."""
    text = plain()
    skipped = [m.span() for m in re.finditer(r'"[^"]*"|reason|\(\d\)|mode: loose|model:|sources:|===', text)]
    found = [m.span() for m in re.finditer(r"\d+\.\d+|\d+|[A-Za-z_]+", text)]
    return [(a, b) for a, b in found if not any(low <= a < high for low, high in skipped)]


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(numbers_and_words()), st.integers(1, 9))
def test_any_number_word_or_test_changes_the_hash_and_is_named(place, by):
    text = plain()
    old = text[slice(*place)]
    new = f"{float(old) * (1 - by / 20):.6g}" if re.fullmatch(r"[\d.]+", old) else f"{old}{'xyz'[by % 3]}"
    the_map = argmap.parse(text[: place[0]] + new + text[place[1] :])
    try:
        content = content_of(the_map)
    except AdapterlabError:
        return  # a misspelt key, adapter or metric of a test is an error, which no lock can have
    assert digest(content) != LOCKED
    assert changes(content_of(argmap.parse(text)), content)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("credence: 0.55", "credence: 0.6", "the credence of [A] changed from 0.55 to 0.6"),
        ("prior: 0.3", "prior: 0.31", "the prior of [T] changed from 0.3 to 0.31"),
        ("[0.7, 0.4]", "[0.7, 0.5]", "the predicted of [A] changed from [0.7, 0.4] to [0.7, 0.5]"),
        ("by: 0.01", "by: 0.02", "the test of [A] changed: by from 0.01 to 0.02"),
        (
            ", by: 0.01",
            "",
            "the test of [A] changed: by from 0.01 to the smallest difference that matters, by the study",
        ),
        ("size: 0.5", "size: 0.4", "the test of [B] changed: size from 0.5 to 0.4"),
        ("[prose, restyle]", "[prose]", "the test of [A] changed: on from [prose, restyle] to [prose]"),
        ("second claim", "second claim or so", "the text of [B] changed"),
        ("  -> [T]", "  +> [T]", "a relation was removed: [B] attack [T]"),
        ("inference: 0.7", "inference: 0.8", "the inference of step 1 of <Arg> changed from 0.7 to 0.8"),
        ("Ann: 0.4", "Ann: 0.9", "the dependence of the source Ann changed from 0.4 to 0.9"),
        ("[Ann, Bob]", "[Ann]", "the source of [A] changed from [Ann, Bob] to [Ann]"),
        ("[P]:", "[Q]:", "[P] was removed"),
        ("0.45", "0.46", "the credence of [a claim without a title] changed from 0.45 to 0.46"),
    ],
)
def test_a_change_is_said_in_words(old, new, said):
    text = plain()
    assert old in text
    found = changes(content_of(argmap.parse(text)), content_of(argmap.parse(text.replace(old, new))))
    assert said in found


def test_claims_without_titles_may_change_places():
    """Also if they have the same text, and in an argument."""
    one, two = "same text {credence: 0.2}\n\n", "same text {credence: 0.7}\n\n"
    argument = "(1) a premise\n----\n(2) a conclusion\n  +> [T]\n\n"
    rest = "[T]: t {prior: 0.3}\n\n"
    assert hash_of(one + two + argument + rest) == hash_of(rest + argument + two + one)
    assert hash_of(one + argument + rest) != hash_of(two + argument + rest)


def test_reasons_quotes_and_links_are_not_content():
    text = plain()
    other = text.replace('"why: 3"', '"another reason"').replace(
        "a premise {", "a premise #tag\n    [x](http://y.z)\n    {"
    )
    assert other != text
    assert hash_of(other) == LOCKED


def test_a_constant_of_the_package_is_a_rule_of_the_lock(monkeypatch):
    before = content_of(argmap.parse(plain()))
    monkeypatch.setitem(adapterlab.verdict.lock_content.RULES, "pairs of runs that a verdict needs", 3)
    (said,) = changes(before, content_of(argmap.parse(plain())))
    assert said == "a rule of this package, pairs of runs that a verdict needs, changed from 2 to 3"


def test_a_rule_that_came_later_changes_no_locked_claim(monkeypatch):
    before = content_of(argmap.parse(plain()))
    monkeypatch.setitem(adapterlab.verdict.lock_content.RULES, "smallest of something new", 0.1)
    assert changes(before, content_of(argmap.parse(plain()))) == []
    monkeypatch.delitem(adapterlab.verdict.lock_content.RULES, "smallest of something new")
    monkeypatch.delitem(adapterlab.verdict.lock_content.RULES, "pairs of runs that a verdict needs")
    assert len(changes(before, content_of(argmap.parse(plain())))) == 1


def test_a_study_resolves_thresholds_and_tasks():
    better = "[A]: a {credence: 0.5, test: {better: ia3, than: lora, in: METRIC, on: [restyle], or_on: [prose]}}"
    study = resolve(study_of(training=Training(steps=30)))
    for metric, margin in (
        ("in_domain", 0.005),
        ("steps_to_reference", 3.0),
        ("learning_rate_width", 0.25),
        ("peak_memory", "0.05 of the reference's largest value"),
    ):
        (test,) = content_of(argmap.parse(better.replace("METRIC", metric)), study)["tests"].values()
        assert (test["by"], test["on"]) == (margin, ["prose"])
    old = content_of(argmap.parse(plain()), study)
    assert changes(old, content_of(argmap.parse(plain()), resolve(study_of(training=Training(steps=40))))) == [
        "design.training.steps of the study changed from 30 to 40"
    ]
    # A key that a later version has got, and that the study does not give, is no change.
    old["study"]["design"]["sweep"]["something_new"] = None
    assert changes(old, content_of(argmap.parse(plain()), study)) == []


def test_the_forecast_is_the_score_of_the_map():
    the_map = argmap.load(shipped("maps", "natural_manifold.argdown"))
    lock, scores = make_lock(the_map), argmap.score(the_map)
    assert lock.forecast["semantics"] == "bayes"
    assert lock.forecast["claims"] == {
        f"[{title}]": pytest.approx(claim.credence, abs=1e-6) for title, claim in scores.claims.items()
    }


def test_a_lock_is_read_as_it_was_written_and_never_overwritten(tmp_path):
    the_map, path = argmap.parse(plain()), tmp_path / "m.lock.json"
    lock = write_lock(make_lock(the_map, date="2026-01-01T00:00:00Z"), path)
    assert read_lock(path) == lock
    assert lock.is_intact
    again = write_lock(make_lock(argmap.parse(plain(rng=random.Random(3)))), path)
    assert again.date == "2026-01-01T00:00:00Z"
    other = make_lock(argmap.parse(plain({"credence": "0.61"})))
    with pytest.raises(AdapterlabError, match="is a lock of 2026-01-01 with other content"):
        write_lock(other, path)
    assert read_lock(path) == lock


@pytest.mark.parametrize("old", ["2026-01-01", "0.55", f'"{version("adapterlab")}"'])
def test_an_edit_by_hand_is_noticed(old, tmp_path):
    path = tmp_path / "m.lock.json"
    text = make_lock(argmap.parse(plain()), date="2026-01-01T00:00:00Z").to_text()
    assert old in text
    path.write_text(text.replace(old, old.replace("1", "2").replace("5", "6"), 1))
    lock = read_lock(path)
    assert not lock.is_intact
    assert "edited by hand" in LockStatus(lock, (), 0).remark


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "name": "m"}'])
def test_a_file_that_is_no_lock_is_one_line(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(AdapterlabError, match="cannot be read as a lock"):
        read_lock(tmp_path / "x.json")


def test_the_lock_with_the_results_comes_before_the_one_beside_the_map(tmp_path):
    map_file, folder = tmp_path / "maps" / "m.argdown", tmp_path / "results"
    folder.mkdir()
    map_file.parent.mkdir()
    map_file.write_text(plain())
    the_map = argmap.load(map_file)
    assert find_lock(the_map, folder) is None
    for date, where in (("2026-01-01", None), ("2026-01-02", folder)):
        write_lock(make_lock(the_map, date=f"{date}T00:00:00Z"), lock_file(map_file, where))
        assert find_lock(the_map, folder).date[:10] == date
    with pytest.raises(AdapterlabError, match="cannot be read"):
        find_lock(the_map, folder, tmp_path / "none.json")


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["map", "lock", *map(str, arguments)])
    if isinstance(result.exception, AdapterlabError):
        return 2, str(result.exception)
    return result.exit_code, result.stdout


def test_the_command_locks_and_checks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = Path("m.argdown")
    file.write_text(plain())
    code, said = invoke(file)
    assert code == 0
    assert f"hash {LOCKED[:16]}" in said
    assert re.search(r"^ 0\.\d+  \[T\]$", said, re.MULTILINE)
    assert invoke(file, "--check") == (
        0,
        f"nothing has changed since {read_lock(Path('m.lock.json')).date}, hash {LOCKED[:16]}\n",
    )
    file.write_text(plain({"inference": "0.9"}))
    code, said = invoke(file, "--check")
    assert (code, said.splitlines()[0]) == (1, "the inference of step 1 of <Arg> changed from 0.7 to 0.9")
    code, said = invoke(file)
    assert (code, "other content" in said) == (2, True)
    code, said = invoke(file, "--study", "quick")
    assert code == 0
    assert Path("runs/quick/m.lock.json").is_file()
    assert invoke(file, "--check", "--out", "runs/quick/m.lock.json")[0] == 2
    assert invoke(file, "--check", "--study", "quick")[0] == 0
    assert invoke(file, "--check", "--out", "none.json")[0] == 2


TEST = "{better: ia3, than: lora, in: in_domain, on: [prose]}"
CLAIM = f"[T]: t {{prior: 0.3}}\n  + [Claim]: c {{predicted: [0.7, 0.4], credence: 0.5, test: {TEST}}}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A finished study, whose trials ended on the 10th and the 11th."""
    folder = tmp_path_factory.mktemp("locked")
    ledger = Ledger(folder / "ledger.sqlite")
    losses = {"ia3": 0.8, "lora": 0.9}
    record(ledger, prepare(STUDY), lambda contest, trial: losses.get(contest.contestant, 1.0) + 1e-3 * trial.seed)
    with sqlite3.connect(folder / "ledger.sqlite") as db:
        db.execute("UPDATE trials SET finished = '2026-05-11T00:00:00Z'")
        db.execute("UPDATE trials SET finished = '2026-05-10T00:00:00Z' WHERE id IN (SELECT id FROM trials LIMIT 3)")
    return folder


STUDY = study_of(training=Training(steps=20, precision="float32"))


@pytest.mark.parametrize(
    ("date", "text", "kept", "said"),
    [
        ("2026-05-09", CLAIM, True, "before the first trial. Map and tests are as they were locked."),
        ("2026-05-10", CLAIM, False, "after 3 trials had run. Map and tests are as they were locked."),
        (
            "2026-05-09",
            CLAIM.replace("on: [prose]", "on: [prose], by: 0.02"),
            False,
            "before the first trial. Changed since: the test of [Claim] changed: by from 0.02 to 0.005.",
        ),
    ],
)
def test_a_verdict_names_its_lock(folder, date, text, kept, said):
    the_map = argmap.parse(CLAIM, "m.argdown")
    path = folder / "given.json"
    path.write_text(make_lock(argmap.parse(text, "m.argdown"), resolve(STUDY), f"{date}T12:00:00Z").to_text())
    analysis = adapterlab.run(STUDY, out=folder, map=the_map, lock=path)
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["lock"]["kept"] is kept
    assert verdict["lock"]["hash"] == read_lock(path).hash
    assert verdict["lock"]["remark"] == analysis.locked
    assert analysis.locked.endswith(said)
    console = Console(file=io.StringIO(), width=80)
    show(analysis, console)
    assert " ".join(console.file.getvalue().split()).count(analysis.locked) == 1
    page = (folder / "report.html").read_text()
    assert page.count(analysis.locked) == (1 if kept else 3)  # a broken lock is among the remarks too
    assert ('id="forecasts"' in page) is True
    assert verdict["claims"][0]["resolved"] is True


def test_a_lock_that_is_not_there_is_an_error_before_anything_runs(tmp_path):
    with pytest.raises(AdapterlabError, match=r"none\.json cannot be read as a lock"):
        adapterlab.run(STUDY, out=tmp_path / "out", map=argmap.parse(CLAIM), lock=tmp_path / "none.json")
    assert not (tmp_path / "out").exists()
    result = CliRunner().invoke(
        app, ["run", "quick", "--out", str(tmp_path / "out"), "--lock", str(tmp_path / "none.json")]
    )
    assert "none.json cannot be read as a lock" in str(result.exception)


def test_a_verdict_without_a_lock_says_so(folder):
    analysis = adapterlab.run(STUDY, out=folder, map=argmap.parse(CLAIM, str(folder / "no.argdown")))
    verdict = json.loads((folder / "verdict.json").read_text())
    assert analysis.lock is None
    assert verdict["lock"] == {"remark": analysis.locked}
    assert analysis.locked.startswith("The claims were not locked before this study")
    page = (folder / "report.html").read_text()
    assert "The claims were not locked before this study" in page
    assert 'id="forecasts"' not in page


def test_a_lock_without_a_study_knows_the_contestants_of_the_study_that_runs():
    study = study_of()
    labelled = study.contestants[1].model_copy(update={"label": "mine"})
    resolved = resolve(study.model_copy(update={"contestants": (study.contestants[0], labelled)}))
    lock = make_lock(argmap.parse(CLAIM))
    later = argmap.parse(CLAIM.replace("better: ia3", "better: mine"))
    assert lock.changes(later, resolved) == ["the test of [Claim] changed: better from ia3 to mine"]


def test_a_study_other_than_the_locked_one_is_a_change(folder):
    lock = make_lock(argmap.parse(CLAIM), resolve(STUDY))
    other = resolve(STUDY.model_copy(update={"name": "other", "training": Training(steps=30, precision="float32")}))
    said = lock.changes(argmap.parse(CLAIM), other)
    assert "name of the study changed from made-up to other" in said
    assert "design.training.steps of the study changed from 20 to 30" in said
    assert not LockStatus(lock, tuple(said), 0).is_kept
    assert replace(lock, date="2020-01-01T00:00:00Z").is_intact is False
