"""Files are written whole or not at all, never through a link, and with the permissions that are asked for."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing

import pytest
import torch

from adapterlab import trust
from adapterlab.adapters.context import Factors
from adapterlab.files import write_text, writing
from adapterlab.lab.ledger import migrations
from adapterlab.lab.run.precision_choice import PrecisionChoice, record_choice
from adapterlab.surgery.init import svd_files


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    with pytest.raises(TypeError), writing(tmp_path / "a.txt") as partial:
        partial.write_text(None)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_file_that_is_not_to_be_replaced_stays(tmp_path):
    write_text(tmp_path / "a.txt", "first", replace=False)
    with pytest.raises(FileExistsError):
        write_text(tmp_path / "a.txt", "second", replace=False)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a.txt", "first")]


def test_a_private_file_is_private_from_the_start(tmp_path):
    with writing(tmp_path / "a.txt", 0o600) as partial:
        assert stat.S_IMODE(partial.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o600


def old_ledger(folder):
    path = folder / "ledger.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(migrations.TABLE)
        db.execute("PRAGMA user_version = 2")
    return path


def migrate(folder):
    path = old_ledger(folder)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        migrations.migrate(db, path)


def decompose(folder):
    svd_files.write(folder, "key", Factors(*torch.linalg.svd(torch.eye(2))))


def record_trust(folder):
    (folder / "mine.py").write_text("x = 1")
    trust.trust([folder / "mine.py"])


def record_precision(folder):
    record_choice(folder, "1f", PrecisionChoice.of("bf16"))


WRITERS = {
    "trusted.json": record_trust,
    "key.safetensors": decompose,
    "precision.json": record_precision,
    "ledger.sqlite.v2.bak": migrate,
}


@pytest.mark.parametrize("name", WRITERS)
def test_no_writer_follows_a_link_or_leaves_a_part(name, tmp_path, monkeypatch):
    folder, victim = tmp_path / "folder", tmp_path / "victim"
    folder.mkdir(mode=0o700)
    victim.write_text("precious")
    (folder / f".{name}.partial").symlink_to(victim)  # as a name that is always the same could be guessed
    if name != "precision.json":
        (folder / name).symlink_to(victim)
    monkeypatch.setenv("ADAPTERLAB_CONFIG", str(folder))
    WRITERS[name](folder)
    assert victim.read_text() == "precious"
    assert not (folder / name).is_symlink()
    assert (folder / name).stat().st_size > 10
    assert [path.name for path in folder.glob(".*")] == [f".{name}.partial"]


def test_a_second_precision_for_the_same_model_is_the_first_and_another_models_is_replaced(tmp_path):
    assert record_choice(tmp_path, "1f", PrecisionChoice.of("bf16")).precision == "bf16"
    assert record_choice(tmp_path, "1f", PrecisionChoice.of("float32")).precision == "bf16"
    assert record_choice(tmp_path, "2a", PrecisionChoice.of("float32")).precision == "float32"
    assert [path.name for path in tmp_path.iterdir()] == ["precision.json"]
