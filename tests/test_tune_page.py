"""docs/tune.md: its commands have options that exist and values that are taken, and its numbers are those of the code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from adapterlab.cli import app
from adapterlab.models.catalogue import CATALOGUE
from adapterlab.tuning import scale
from adapterlab.tuning.request import SHORTLIST, make_request
from tests.tasks.user_files import completions, write

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/tune.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.strip()
]


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_exist_with_their_options(command):
    _, verb, *arguments = shlex.split(command)
    known = {option for parameter in get_command(app).commands[verb].params for option in parameter.opts}
    if verb == "models":
        assert arguments[0] == "fetch"
        assert arguments[1] in CATALOGUE
    else:
        assert {argument for argument in arguments if argument.startswith("--")} <= known


@pytest.mark.parametrize("command", [c for c in COMMANDS if " tune " in c])
def test_the_options_of_its_tune_commands_are_taken(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "my.jsonl", completions(40))
    arguments = shlex.split(command)[2:]
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    request = make_request(
        "embedded",
        Path(options["--train"]),
        evaluate=None,
        ood=None,
        keep=None,
        contestants=options.get("--contestants"),
        time=options.get("--time", "15m"),
        budget=None,
        seeds=None,
        batch=8,
        length=None,
        ranks=options.get("--ranks"),
        targets=options.get("--targets"),
        methods=options.get("--methods"),
        metric=options.get("--metric"),
        max_new_tokens=int(options["--max-new-tokens"]) if "--max-new-tokens" in options else None,
    )
    assert request.contestants


def test_its_numbers_are_those_of_the_code():
    text = " ".join(TEXT.split())
    assert f"fit in {scale.PLANNED_SHARE:.0%} of the time".replace("%", " %") in text
    assert "Scoring takes a third of the time at most" in text
    assert scale.SCORING_SHARE == 1 / 3
    assert (scale.FEWEST_SEEDS, scale.MAX_SEEDS) == (2, 10)
    assert f"{scale.ROWS_PER_SEED} for each seed" in text
    assert len(SHORTLIST) == 5


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)h][^)]*)\)", TEXT):
        path, _, anchor = target.partition("#")
        page = (ROOT / "docs" / path).read_text()
        headings = {
            re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in re.findall(r"(?m)^#+ (.*)$", page)
        }
        assert not anchor or anchor in headings, target
