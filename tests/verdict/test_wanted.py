"""Tests of claims that name a contestant by its settings, a control, or a size; and their checks before a study runs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from typer.testing import CliRunner

from adapterlab import argmap
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.lab.analysis.effects import Effects
from adapterlab.verdict import check_tests, judge, read_tests
from adapterlab.verdict.claims import read_test
from adapterlab.verdict.wanted import Wanted
from tests.lab.made_up import played
from tests.verdict.test_verdict import a_map

WHERE = "in: in_domain, on: [prose, restyle]"


@pytest.mark.parametrize(
    ("text", "name", "settings"),
    [
        ("lora", "lora", {}),
        ("lora-rank-1", "lora-rank-1", {}),
        ("lora(rank=1)", "lora", {"rank": 1}),
        (" svft( pattern = random ) ", "svft", {"pattern": "random"}),
        ("lora(rank=4, alpha=8.0)", "lora", {"rank": 4, "alpha": 8.0}),
    ],
)
def test_a_contestant_is_a_label_or_an_adapter_with_settings(text, name, settings):
    found = Wanted.parse(text)
    assert (found.name, dict(found.settings)) == (name, settings)
    assert Wanted.parse(str(found)) == found


@pytest.mark.parametrize("text", ["", "lora(1)", "lora(rank", "lora)rank(", "(rank=1)", "lora(=1)"])
def test_other_texts_are_refused(text):
    with pytest.raises(
        AdapterlabError, match=r"names no contestant: write a label, or an adapter such as lora\(rank=1\)"
    ):
        Wanted.parse(text)


def effects(*entries: Mapping[str, object], parameters: Mapping[str, int] | None = None, **gains: float) -> Effects:
    return Effects.of(played(entries, gains=gains, noise=0.004, parameters=parameters))


def only(test: str, found: Effects):
    (verdict,) = judge(a_map(test), found, 1.0).verdicts
    return verdict


def test_a_claim_about_rank_one_is_tested_by_rank_one_alone():
    test = f'{{reaches: 0.9, who: "lora(rank=1)", of: dora, {WHERE}}}'
    entries = [{"adapter": "lora", "label": "one", "settings": {"rank": 1}}, {"adapter": "lora"}, {"adapter": "dora"}]
    found = only(test, effects(*entries, one=0.2, lora=0.1, dora=0.2))
    assert found.test.contestants() == ("one", "dora")
    assert found.after > 0.9
    assert only(test, effects(*entries, one=0.1, lora=0.2, dora=0.2)).after < 0.2
    assert only(test, effects(*entries[1:], lora=0.2, dora=0.2)).untested == "lora(rank=1) did not run in this study"


def test_two_contestants_that_fit_are_named():
    entries = [{"adapter": "lora", "label": name, "settings": {"rank": 1}} for name in ("one", "other")]
    test = f'{{better: "lora(rank=1)", than: dora, {WHERE}}}'
    found = only(test, effects(*entries, {"adapter": "dora"}, one=0.1, other=0.1, dora=0.1))
    assert found.untested == "one and other are both lora(rank=1): name one by its label"


def test_a_control_is_the_same_method_without_a_part():
    entries = [{"adapter": "ssvd"}, {"adapter": "ssvd", "label": "free", "settings": {"rotation": "free"}}]
    test = f'{{controlled: ssvd, against: "ssvd(rotation=free)", {WHERE}}}'
    assert only(test, effects(*entries, ssvd=0.2, free=0.1)).after > 0.9
    assert only(test, effects(*entries, ssvd=0.1, free=0.2)).after < 0.1
    with pytest.raises(AdapterlabError, match="controlled and against must be one adapter with different settings"):
        read_test("C", {"controlled": "ssvd", "against": "lora", "in": "in_domain", "on": "prose"})


def test_a_claim_about_a_size_is_not_tested_by_a_larger_one():
    test = f"{{reaches: 0.9, who: vera, of: lora, size: 0.1, {WHERE}}}"
    entries = {"adapter": "lora"}, {"adapter": "vera"}
    found = effects(*entries, parameters={"lora": 1000, "vera": 500}, lora=0.1, vera=0.1)
    assert only(test, found).untested == (
        "vera trains 0.5 times the parameters of lora, but the claim is about at most 0.1 of them"
    )
    assert not only(test.replace("size: 0.1, ", ""), found).untested
    small = effects(*entries, parameters={"lora": 1000, "vera": 108}, lora=0.1, vera=0.1)
    assert only(test, small).after > 0.9


@pytest.mark.parametrize(
    ("test", "problem"),
    [
        (
            f"{{better: lorra, than: lora, {WHERE}}}",
            r"unknown adapter 'lorra' in the test of \[Claim\]: did you mean lora",
        ),
        (f'{{better: "lora(rnk=1)", than: dora, {WHERE}}}', r"the test of \[Claim\]: .*rnk"),
        (f"{{better: lora, than: dora, size: 1.5, {WHERE}}}", r"the test of \[Claim\]: size: .*less than 1"),
        ("{better: lora, than: dora, in: in_doman, on: [prose]}", r"unknown metric 'in_doman'"),
        (f"{{better: lora, then: dora, {WHERE}}}", r"unknown key 'then' in the test of \[Claim\]: did you mean than"),
        (f"{{trumps: lora, than: dora, {WHERE}}}", r"has none of the keys better, controlled, reaches, equivalent"),
        ("lora is better", r"the test of \[Claim\] is 'lora is better': write \{better: dora"),
        (f"{{equivalent: lora, to: dora, within: 0, {WHERE}}}", "within: .*greater than 0"),
    ],
)
def test_a_mistake_is_found_by_map_check_and_before_a_study(test, problem, tmp_path):
    the_map = a_map(test)
    (found,) = check_tests(the_map)
    assert (found.severity, found.code) == ("error", "test")
    with pytest.raises(AdapterlabError, match=problem):
        read_tests(the_map)
    file = tmp_path / "m.argdown"
    file.write_text(the_map.source.text)
    result = CliRunner().invoke(app, ["map", "check", str(file)])
    assert result.exit_code == 1
    assert found.message in result.stdout


def test_a_task_of_ones_own_is_a_warning_and_a_label_of_the_study_is_known():
    the_map = a_map("{better: mine, than: lora, in: in_domain, on: [mytask]}")
    assert check_tests(the_map)[0].severity == "error"
    assert read_tests(the_map, ["mine"])["Claim"].contestants() == ("mine", "lora")
    the_map = a_map("{better: coft, than: lora, in: in_domain, on: [mytask]}")
    (found,) = check_tests(the_map)
    assert (found.severity, found.message) == (
        "warning",
        "the test of [Claim] names mytask, which must be a task of the study",
    )


def test_the_built_in_map_has_no_such_mistake():
    from adapterlab.resources import shipped

    assert check_tests(argmap.load(shipped("maps", "natural_manifold.argdown"))) == []
