"""`adapterlab run` on a disk that fills up: one line, nothing lost, and the same command goes on once there is room."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import pytest

from adapterlab.cli import main
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.run.scheduler import run_study
from adapterlab.lab.study.load import load_study
from tests.lab.disk import make_room, small_disk
from tests.lab.tiny import save_study, what_counts


@pytest.fixture
def adapterlab(monkeypatch, capsys):
    """Runs a command line; gives its exit code and what it wrote to stderr."""

    def run(*arguments: object) -> tuple[object, str]:
        monkeypatch.setattr(sys, "argv", ["adapterlab", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        return left.value.code, capsys.readouterr().err

    return run


def test_a_full_disk_stops_a_study_that_goes_on_when_there_is_room(adapterlab, tmp_path):
    study, disk = save_study(tmp_path, steps=6), tmp_path / "disk"
    undisturbed = Ledger(tmp_path / "undisturbed.sqlite")
    run_study(prepare(load_study(study).limited(workers=1)), undisturbed)
    command = ("run", study, "--out", disk, "--workers", 1)
    with small_disk(disk, "100k"):
        code, said = adapterlab(*command)
        assert code == 2
        assert said.count("\n") == 1
        assert "could not be recorded" in said
        kept = what_counts(Ledger(disk / "ledger.sqlite"))
        assert 0 < len(kept) < len(undisturbed)
        assert kept.items() <= what_counts(undisturbed).items()

        make_room(disk, "9m")
        assert adapterlab(*command)[0] == 0
        assert what_counts(Ledger(disk / "ledger.sqlite")) == what_counts(undisturbed)

        report, verdict = (disk / "report.html").read_bytes(), (disk / "verdict.json").read_bytes()
        fill(disk / "ballast")
        code, said = adapterlab(*command)
        assert code == 2
        assert said.count("\n") == 1
        assert "no room on the disk" in said
        assert (disk / "report.html").read_bytes() == report
        assert (disk / "verdict.json").read_bytes() == verdict
        assert what_counts(Ledger(disk / "ledger.sqlite")) == what_counts(undisturbed)


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast, suppress(OSError):
        while True:
            ballast.write(bytes(4096))
