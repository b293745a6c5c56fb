"""A map from someone else cannot act on the terminal: every command prints its control characters as escapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from adapterlab.cli import app
from adapterlab.names import is_control

ESCAPE, CLEAR, TURN, DELETE = "\x1b[2J", "\x9b31m", "\u202e", "\x7f"
EVIL = f"{ESCAPE}{CLEAR}{TURN}{DELETE}"
MAP = f"""[T{EVIL}]: thesis

<A{EVIL}>

(1) [P{EVIL}]: premise #observation [paper](https://example.org/p) {{reason: "r{EVIL}", credence: 0.8}}
(2) [Q]: premise{EVIL} #observation [paper](none{ESCAPE}.txt) {{reason: "r{EVIL}", quote: "q{EVIL}", credence: 0.7}}
----
(3) [C]: conclusion {{reason: "r{EVIL}", inference: 0.5}}
     +>   [T{EVIL}]
"""
TEST = "{better: dora, than: lora, in: in_domain, on: [prose]}"
TESTED = f"[T]: t {{prior: 0.3}}\n  + [C{EVIL}]: c {{predicted: [0.7, 0.4], credence: 0.5, test: {TEST}}}\n"
BROKEN = f"{MAP}\n[B{EVIL}] is{EVIL} so\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / f"map{ESCAPE}.argdown").write_text(MAP)
    (tmp_path / "other.argdown").write_text(MAP.replace("0.8", "0.6").replace("[Q]", f"[R{EVIL}]"))
    (tmp_path / "tested.argdown").write_text(TESTED)
    (tmp_path / "broken.argdown").write_text(BROKEN)
    (tmp_path / "page.md").write_text(f"```argdown\n{MAP}```\n")
    return tmp_path


def printed(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["map", *map(str, arguments)])
    return done.stdout + done.stderr


COMMANDS = {
    "check": ("check", "MAP"),
    "check with an error": ("check", "BROKEN"),
    "score": ("score", "MAP", "--interval"),
    "crux": ("crux", "MAP", "--skip-broken"),
    "what-if": ("what-if", "MAP", "--set", f"[P{EVIL}]=0.1", "--skip-broken"),
    "diff": ("diff", "MAP", "OTHER", "--skip-broken"),
    "render": ("render", "MAP", "--out", f"OUT{ESCAPE}.svg", "--skip-broken"),
    "render a selection": ("render", "MAP", "--out", f"OUT{ESCAPE}.svg", "--tags", "observation", "--skip-broken"),
    "markdown": ("markdown", "PAGE", "--out", f"OUT{ESCAPE}.html"),
    "fmt": ("fmt", "MAP"),
    "fmt --check": ("fmt", "MAP", "--check"),
    "lock": ("lock", "MAP", "--out", f"OUT{ESCAPE}.lock.json"),
    "next": ("next", "TESTED", "--no-measure"),
}
WITH_JSON = ("check", "check with an error", "score", "crux", "what-if", "diff", "next")


def filled(folder: Path, command: tuple[str, ...]) -> list[str]:
    places = {
        "MAP": folder / f"map{ESCAPE}.argdown",
        "OTHER": folder / "other.argdown",
        "TESTED": folder / "tested.argdown",
        "BROKEN": folder / "broken.argdown",
        "PAGE": folder / "page.md",
    }
    return [str(places.get(word, word)).replace("OUT", str(folder / "out")) for word in command]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_a_control_character(command: str, folder: Path) -> None:
    shown = printed(*filled(folder, COMMANDS[command]))
    assert "\\x1b" in shown, "the command showed nothing of the map"
    assert not [c for c in shown if is_control(c) and c not in "\n\t"]


@pytest.mark.parametrize("command", WITH_JSON)
def test_json_is_without_them_and_means_the_same(command: str, folder: Path) -> None:
    shown = printed(*filled(folder, COMMANDS[command]), "--json")
    assert not [c for c in shown if is_control(c) and c not in "\n\t"]
    if command in ("score", "crux", "what-if", "diff"):
        assert EVIL in str(json.loads(shown)) or repr(EVIL)[1:-1] in str(json.loads(shown))


def test_fmt_writes_the_map_as_it_is_into_a_pipe(folder: Path) -> None:
    shown = printed(*filled(folder, ("fmt", "MAP", "--stdout")))
    assert EVIL in shown
