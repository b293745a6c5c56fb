"""Include directives, compared with the reference."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapterlab import argmap
from adapterlab.argmap.cli import app
from adapterlab.argmap.lint.checks import check
from adapterlab.argmap.model.files import read
from adapterlab.argmap.tools.fmt import format_map, meaning
from adapterlab.errors import AdapterlabError
from tests.argmap.reference import reference_cli, summary
from tests.argmap.test_parity import needs_reference

FILES = {
    "main": "===\ntitle: main\n===\n\n# Main\n\n[T]: thesis\n  @include(relations.argdown)\n\n@include(parts/a.argdown)\n"
    "\n@include(parts/c.argdown)\n\n[T]: later @include(words.argdown) and more\n",
    "relations": "+ [R]: first {credence: 0.5}\n  - [S]: second\n",
    "parts/a": "# Part\n\n[A]: a {credence: 0.25}\n  +> [T]\n\n@include(../b.argdown)\n\n@include(deep/c.argdown)",
    "b": "[B]: b\n  -> [A]\n",
    "parts/deep/c": "<C>\n\n(1) [A]\n----\n(2) [D]: d\n",
    "parts/c": "[E]: e\n  +> [T]\n\n@include(../b.argdown)\n\n[F]: f\n  -> [E]\n",
    "words": "words of a file",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / f"{name}.argdown"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    return folder / f"{next(iter(files))}.argdown"


@needs_reference
def test_included_files_read_as_in_the_reference(tmp_path: Path) -> None:
    exported = reference_cli.export_file(write(tmp_path, FILES))
    assert exported is not None
    read_map = read(tmp_path / "main.argdown")
    assert [d.code for d in read_map.diagnostics] == ["included-twice"]
    assert summary.of_map(read_map) == summary.of_reference(exported)


def test_included_files_read_as_if_their_text_were_in_the_map(tmp_path: Path) -> None:
    text = FILES["main"]
    for name in ("relations", "words", "parts/c", "parts/a", "b"):
        text = text.replace(f"@include({name}.argdown)", FILES[name])
    text = text.replace("@include(deep/c.argdown)", FILES["parts/deep/c"]).replace(
        "@include(../b.argdown)", FILES["b"], 1
    )
    inlined = argmap.parse(text.replace("@include(../b.argdown)\n\n", ""))
    assert meaning(inlined) == meaning(read(write(tmp_path, FILES)))


def test_a_circle_is_refused_with_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, {"main": "[A]: a\n\n@include(b.argdown)\n", "b": "[B]: b\n\n@include(main.argdown)\n"})
    found = read(path)
    (error,) = [d for d in found.diagnostics if d.severity == "error"]
    assert error.render(found.source).splitlines()[:2] == [
        f"{tmp_path}/b.argdown:3:1: error: {tmp_path}/main.argdown includes itself, directly or through other files"
        " [include-circle]",
        "    3 | @include(main.argdown)",
    ]
    assert [*found.claims] == ["A", "B"]
    with pytest.raises(AdapterlabError, match=r"has 1 error\n.*b\.argdown:3:1"):
        argmap.load(path)


def test_findings_name_the_included_file_and_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {
            "main": "[T]: t\n\n@include(sub/a.argdown)\n\n[B] is so\n",
            "sub/a": "[A]: a {credence: 2}\n  -> [T]\n\n@include(b.argdown)",
            "sub/b": "\n[C] falls\n",
        },
    )
    found = read(path)
    findings = check(found)
    places = [(Path(d.file).name, d.line, d.column, d.code) for d in findings if d.severity == "error"]
    assert places == [
        ("", 5, 5, "text-place"),
        ("a.argdown", 1, 8, "out-of-range"),
        ("b.argdown", 2, 5, "text-place"),
    ]
    outcome = CliRunner().invoke(app, ["check", str(path)])
    assert f"{tmp_path}/sub/b.argdown:2:5: error" in outcome.stdout
    assert "    2 | [C] falls\n" in outcome.stdout


@pytest.mark.parametrize(
    ("directive", "code"),
    [
        ("@include(none.argdown)", "include"),
        ("@include(.)", "include"),
        ("@include(binary.argdown)", "include"),
        ("@include(a\0b)", "include"),
        ("@include(main.argdown)", "include-circle"),
    ],
)
def test_a_file_that_cannot_be_included_is_one_error(tmp_path: Path, directive: str, code: str) -> None:
    (tmp_path / "binary.argdown").write_bytes(b"\xff\xfe")
    path = write(tmp_path, {"main": f"[A]: a\n\n{directive}\n\n[B]: b\n  - [A]\n"})
    found = read(path)
    assert [(d.severity, d.code, d.line) for d in found.diagnostics] == [("error", code, 3)]
    assert [*found.claims] == ["A", "B"]


def test_long_chains_and_large_files_are_refused(tmp_path: Path) -> None:
    chain = {f"f{i}": f"[A{i}]: a\n\n@include(f{i + 1}.argdown)\n" for i in range(200)}
    assert [d.code for d in read(write(tmp_path, chain)).diagnostics] == ["include"]
    with (tmp_path / "large.argdown").open("wb") as file:
        file.truncate(20_000_001)
    assert [d.code for d in read(write(tmp_path, {"m": "[A]: a\n\n@include(large.argdown)\n"})).diagnostics] == [
        "too-large"
    ]


def test_without_a_folder_nothing_is_read() -> None:
    found = argmap.parse("[A]: a\n\n@include(/etc/hostname)\n")
    assert [(d.severity, d.code) for d in found.diagnostics] == [("warning", "not-included")]


def test_numbers_are_written_into_the_file_that_has_them(tmp_path: Path) -> None:
    path = write(
        tmp_path, {"main": "\ufeff[T]: t\n\n@include(a.argdown)\n", "a": "\ufeff[A]: a {credence: 0.5}\n  +> [T]\n"}
    )
    before = path.read_bytes()
    outcome = CliRunner().invoke(app, ["what-if", str(path), "--set", "A=0.25", "--write"])
    assert outcome.exit_code == 0
    assert path.read_bytes() == before
    assert (tmp_path / "a.argdown").read_text() == "\ufeff[A]: a {credence: 0.25}\n  +> [T]\n"


def test_formatting_keeps_directives_and_the_meaning(tmp_path: Path) -> None:
    path = write(tmp_path, FILES)
    formatted = format_map(FILES["main"], str(path), tmp_path)
    assert formatted == FILES["main"]
    files = {"main": "[T]:  t\n  +    [A]: a\n@include(b.argdown)\n\n\n\n[C]: c", "b": "  - [B]: b\n"}
    path = write(tmp_path, files)
    assert CliRunner().invoke(app, ["fmt", str(path)]).exit_code == 0
    assert path.read_text() == "[T]:  t\n  + [A]: a\n@include(b.argdown)\n\n[C]: c\n"
    assert (tmp_path / "b.argdown").read_text() == files["b"]
