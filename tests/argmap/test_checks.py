"""Findings of `map check`."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterlab import argmap
from adapterlab.argmap.lint.checks import check
from adapterlab.argmap.lint.evidence import check_evidence
from adapterlab.argmap.lint.numbers import is_quantitative
from adapterlab.argmap.syntax.diagnostics import Diagnostic
from tests.argmap.reference import corpus

SOURCES = corpus.SOURCES_MAP.parent
needs_sources = pytest.mark.skipif(not corpus.SOURCES_MAP.exists(), reason="the sources (../shared) are not here")

SOUND = """
[T]: thesis

<A>

(1) [P]: premise #observation [paper](https://example.org/p) {reason: "r", credence: 0.8}
----
(2) [C]: conclusion {reason: "r", inference: 0.5}
  +> [T]
"""


def found(text: str) -> dict[str, Diagnostic]:
    return {d.code: d for d in check(argmap.parse(text))}


def test_a_sound_map_has_no_findings() -> None:
    assert found(SOUND) == {}


WRONG = {
    "undefined": (SOUND + "  +> [Nowhere]\n", "error", "[Nowhere] is not defined"),
    "undefined-mention": (
        SOUND.replace("thesis", "thesis, see @[Gone]"),
        "warning",
        "@[Gone] is not defined in this map",
    ),
    "isolated": (SOUND + '\n[Lone]: alone {reason: "r", credence: 0.5}\n', "warning", "[Lone] has no relation"),
    "island": (
        SOUND + '\n[Other]: apart\n  + [Pro]: too {reason: "r", credence: 0.5}\n',
        "warning",
        "[Other] and 1 more are not connected",
    ),
    "other-text": (
        SOUND + "\n[P]: other words\n",
        "warning",
        "[P] has another text in line 11, which replaces the one in line 6",
    ),
    "other-number": (
        SOUND + '\n[P] {reason: "s", credence: 0.7}\n',
        "warning",
        "[P] has another credence in line 11, 0.7, which replaces the one in line 6, 0.8",
    ),
    "no-credence": (SOUND.replace(", credence: 0.8", ""), "error", "[P] has no credence"),
    "no-inference": (SOUND.replace(", inference: 0.5", ""), "error", "<A> has no inference"),
    "out-of-range": (SOUND.replace("0.8", "1.8"), "error", "credence 1.8 is outside [0, 1]"),
    "not-a-number": (SOUND.replace("0.8", "high"), "error", "credence is 'high', not a number"),
    "number-first": (
        SOUND.replace('{reason: "r", credence: 0.8}', '{credence: 0.8, reason: "r"}'),
        "warning",
        "before its reason",
    ),
    "no-reason": (SOUND.replace('reason: "r", credence', "credence"), "warning", "credence has no reason"),
    "thesis-with-credence": (
        SOUND.replace("[T]: thesis", "[T]: thesis {credence: 0.7}"),
        "error",
        "the thesis [T] has a credence",
    ),
    "credence-of-conclusion": (
        SOUND.replace("inference: 0.5", "inference: 0.5, credence: 0.4"),
        "warning",
        "it is ignored: the claim is a conclusion",
    ),
    "no-source": (
        SOUND.replace("[paper](https://example.org/p)", ""),
        "error",
        "[P] has the tag #observation but no source",
    ),
    "named-like-argument": (
        SOUND
        + '\n<B>\n\n(1) [Q]: q {reason: "r", credence: 0.5}\n'
        + '----\n(2) [D]: d {reason: "r", inference: 0.5}\n  +> [A]\n',
        "error",
        "[A] is a claim with the same title as the argument <A>",
    ),
    "circular": (
        SOUND + '\n<B>\n\n(1) [C]\n----\n(2) [P] {reason: "r", inference: 0.5}\n',
        "error",
        "circular entailment: [",
    ),
}


@pytest.mark.parametrize("code", WRONG)
def test_a_mistake_is_found(code: str) -> None:
    text, severity, message = WRONG[code]
    finding = found(text)[code]
    assert finding.severity == severity
    assert message in finding.message


@pytest.mark.parametrize("number", ["credence: 0.5", "prior: 0.5", "inference: 0.5"])
def test_missing_numbers_are_errors_if_the_map_has_a_number(number: str) -> None:
    missing = {"no-credence", "no-inference"}
    bare = "[T]: thesis\n\n<A>\n\n(1) [P]: premise\n----\n(2) [C]: conclusion\n  +> [T]\n\n[Q]: claim\n  -> [T]"
    assert not found(bare)
    assert {d.code for d in check(argmap.parse(bare), strict=True)} == missing
    one = bare.replace("[Q]: claim", f"[Q]: claim {{{number}}}")
    assert missing <= {d.code for d in check(argmap.parse(one))}


@pytest.mark.parametrize("line", ["-- rule {inference: 0.5} --", "-- rule {credence: 0.5} --"])
def test_a_number_on_an_inference_line_makes_a_map_quantitative(line: str) -> None:
    assert "no-credence" in found(f"<A>\n\n(1) [P]: premise\n{line}\n(2) [C]: conclusion\n")


@pytest.mark.parametrize("name", corpus.written())
def test_no_numbers_are_missing_in_a_map_without_numbers(name: str) -> None:
    read = argmap.parse(corpus.written()[name])
    if not is_quantitative(read):
        assert not {"no-credence", "no-inference"} & {d.code for d in check(read)}


def test_the_same_text_may_be_written_twice() -> None:
    assert found(SOUND + '\n[P]:  premise [paper](https://example.org/p) {reason: "r", credence: 0.8}\n') == {}


def test_in_strict_mode_circular_support_is_circular_entailment() -> None:
    circle = "[A]: a\n  + [B]: b\n    + [A]\n"
    assert "circular" in found("===\nmodel:\n    mode: strict\n===\n\n" + circle)
    assert "circular" not in found(circle)


@needs_sources
def test_the_errors_of_the_sources_map_are_found() -> None:
    findings = check(argmap.parse(corpus.sources_map(fixed=False)))
    by_code = {code: [d for d in findings if d.code == code] for code in {d.code for d in findings}}
    assert [d.message.split(" has no conclusion")[0] for d in by_code["missing-inference"]] == [
        "<AntiPaSTO OOD Transfer>"
    ]
    named = [d.message.split(" is a claim")[0] for d in by_code["named-like-argument"]]
    assert named == ["[Orthogonal Preservation]", "[Direction Magnitude Decoupling]"]
    assert len(by_code["island"]) == 2
    assert len(findings) == 5


@needs_sources
def test_the_quotes_of_the_sources_map_are_compared_with_the_papers() -> None:
    read = argmap.parse(corpus.sources_map(fixed=True))
    findings = check_evidence(read, SOURCES, moved={"docs": "papers"})
    quoting = [c for c in read.claims.values() if any(m.quotes for m in c.mentions)]
    assert len(quoting) == 26
    wrong = {d.message.split("]")[0][1:]: d.code for d in findings}
    assert "Cross-Layer Coupling" not in wrong  # word for word, at the lines it names
    assert wrong["Kronecker Products"] == "quote-lines"  # word for word, but further down
    assert wrong["Adaptive Rank Allocation"] == "quote-type"  # the paper's sentence goes on
    assert wrong["LoRA Ceiling"] == "quote"


PAPER = """# A paper

We show that **adapters** which turn weights
for-get less, and that "size" matters (see table 2).

More words follow here, and then some others.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.md").write_text(PAPER)
    return tmp_path


def evidence(folder: Path, link: str, quote: str, missing: str = "warning") -> list[Diagnostic]:
    text = f"[A]: claim\n  [evidence]({link})\n  > {quote}\n"
    return check_evidence(argmap.parse(text), folder, "error" if missing == "error" else "warning")


@pytest.mark.parametrize(
    "quote",
    [
        "We show that adapters which turn weights",
        "We show   that **adapters** which",
        "We show that adapters (...) matters",
        "(...) turn weights for-get less,",
    ],
)
def test_a_quote_that_is_in_the_file_passes(folder: Path, quote: str) -> None:
    assert evidence(folder, "papers/a.md#L3-L4", quote) == []


def test_a_quote_that_is_not_in_the_file_shows_the_nearest_match(folder: Path) -> None:
    (finding,) = evidence(folder, "papers/a.md#L3-L4", "We show that adapters which shear weights forget more")
    assert (finding.severity, finding.code) == ("error", "quote")
    assert "line 3 has" in finding.fix
    assert "turn weights" in finding.fix
    assert "shear weights" in finding.fix


def test_the_message_names_the_lines_of_a_quote_that_is_elsewhere(folder: Path) -> None:
    (finding,) = evidence(folder, "papers/a.md#L3", "More words follow here")
    assert (finding.code, "from line 6 on" in finding.fix) == ("quote-lines", True)


def test_a_quote_with_other_typography_is_a_warning(folder: Path) -> None:
    (finding,) = evidence(folder, "papers/a.md", "turn weights forget less, and that “size” matters")
    assert (finding.severity, finding.code) == ("warning", "quote-type")


@pytest.mark.parametrize(
    "link", ["../secret.md", "papers/../../secret.md", "/etc/hostname", "file:///etc/hostname", "%2e%2e/secret.md"]
)
def test_links_never_leave_the_folder(folder: Path, link: str) -> None:
    (folder.parent / "secret.md").write_text("We show")
    (finding,) = evidence(folder, link, "We show")
    assert (finding.severity, finding.code) == ("error", "outside")


def test_symlinks_are_refused(folder: Path) -> None:
    (folder / "link.md").symlink_to(folder / "papers" / "a.md")
    (folder / "linked").symlink_to(folder / "papers")
    for link in ("link.md", "linked/a.md"):
        assert [d.code for d in evidence(folder, link, "We show")] == ["outside"]


def test_the_severity_of_a_missing_file_is_the_requested_one(folder: Path) -> None:
    assert [d.severity for d in evidence(folder, "papers/none.md", "x")] == ["warning"]
    assert [d.severity for d in evidence(folder, "papers/none.md", "x", "error")] == ["error"]


def test_lines_outside_the_file_are_an_error_and_web_links_are_skipped(folder: Path) -> None:
    assert [d.code for d in evidence(folder, "papers/a.md#L90", "We show")] == ["no-such-lines"]
    assert evidence(folder, "https://example.org/a.md", "not checked") == []
