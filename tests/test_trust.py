"""The Python files of a study are run only after someone trusted them as they are."""

from __future__ import annotations

import json
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import adapterlab
from adapterlab import trust
from adapterlab.adapters import all_adapters
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError, AdapterlabWarning
from adapterlab.lab.ledger.store import Ledger
from adapterlab.lab.run.locate import LEDGER, open_study, record_study
from adapterlab.lab.study.load import load_study
from adapterlab.models.loading import load as load_model
from tests.lab.tiny import save_study

CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from adapterlab.adapters.gain.ia3 import IA3
class Mine(IA3):
    name = "mine"
"""


@pytest.fixture(autouse=True)
def own_record(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTERLAB_CONFIG", str(tmp_path / "config"))


@pytest.fixture
def study(tmp_path):
    """A study with a contestant of its own file, which leaves a mark when it is run."""
    (tmp_path / "mine.py").write_text(CODE)
    path = save_study(tmp_path)
    text = path.read_text().replace('adapter = "ia3"', 'adapter = "mine"')
    path.write_text(text.replace("[training]", 'adapter_files = ["mine.py"]\n\n[training]', 1))
    return path


def ran(study):
    mark = study.with_name("ran")
    found = mark.exists()
    mark.unlink(missing_ok=True)
    return found


def results(study):
    """A folder of results whose study names the file."""
    folder = study.with_name("results")
    folder.mkdir()
    Ledger(folder / LEDGER)
    record_study(load_study(study, trust=True), folder)
    assert ran(study)
    (trust.config_folder() / trust.TRUSTED).unlink()
    return folder


def test_a_study_with_code_is_refused_until_it_is_trusted_and_after_each_change(study):
    with pytest.raises(
        trust.UntrustedCodeError, match=r"tiny.toml runs the Python code in .*mine.py.* give --trust once"
    ):
        load_study(study)
    assert not ran(study)
    assert "mine" in [c.adapter for c in load_study(study, trust=True).contestants]
    assert ran(study)
    load_study(study)
    study.with_name("mine.py").write_text(CODE + "# changed")
    with pytest.raises(trust.UntrustedCodeError, match="or has changed since"):
        load_study(study)
    assert not ran(study)


def test_the_record_is_the_users_alone(study):
    load_study(study, trust=True)
    record = trust.config_folder() / trust.TRUSTED
    assert stat.S_IMODE(record.stat().st_mode) == 0o600
    assert list(json.loads(record.read_text()).values()) == [str(study.with_name("mine.py"))]
    record.write_text("not json")
    with pytest.raises(trust.UntrustedCodeError):
        load_study(study)


@pytest.mark.parametrize("command", [adapterlab.status, adapterlab.trials])
def test_reading_results_runs_nothing_and_names_what_is_left_out(command, study):
    folder = results(study)
    all_adapters()  # what the test's own loading registered does not count
    from adapterlab.adapters.base import Adapter

    del Adapter.registry["mine"]
    with pytest.warns(
        AdapterlabWarning, match="left out mine, since the Python files that define them are not trusted"
    ):
        command(folder)
    assert not ran(study)


def test_running_a_folder_of_results_runs_its_code_only_if_trusted(study):
    folder = results(study)
    with pytest.raises(trust.UntrustedCodeError, match="results runs the Python code"):
        open_study(folder)
    found, _ = open_study(folder, trust=True)
    assert found.adapter_files == (str(study.with_name("mine.py")),)


def test_results_that_are_nothing_without_their_code_are_refused(study):
    study.write_text(study.read_text().replace("budget", 'reference = "mine"\nbudget'))
    folder = results(study)
    from adapterlab.adapters.base import Adapter

    del Adapter.registry["mine"]
    with pytest.raises(trust.UntrustedCodeError, match="runs the Python code"):
        open_study(folder, reading=True)
    study.with_name("mine.py").unlink()
    with pytest.raises(AdapterlabError, match="needs mine, whose Python files are not on this machine"):
        open_study(folder, reading=True)


def test_the_command_line_refuses_in_one_line_and_warns_in_one(study):
    folder = results(study)
    environment = {**os.environ, "ADAPTERLAB_CONFIG": str(trust.config_folder())}

    def said(*arguments):
        call = [sys.executable, "-m", "adapterlab", *arguments]
        done = subprocess.run(call, capture_output=True, text=True, env=environment, cwd=study.parent, check=False)
        return done.returncode, [line for line in done.stderr.splitlines() if line.startswith("adapterlab: ")]

    status, lines = said("run", str(study))
    assert status == 2
    assert len(lines) == 1
    assert "give --trust once" in lines[0]
    status, lines = said("status", str(folder))
    assert status == 0
    assert len(lines) == 1
    assert "left out mine" in lines[0]
    assert not ran(study)


def test_a_plan_is_refused_too_and_says_why(study):
    done = CliRunner().invoke(app, ["run", str(study), "--plan"])
    assert isinstance(done.exception, trust.UntrustedCodeError)
    assert str(done.exception).endswith("; --plan runs that code too, since it times steps of each contestant")
    assert "\n" not in str(done.exception)
    assert not ran(study)
    assert "--plan" not in str(CliRunner().invoke(app, ["run", str(study)]).exception)


@pytest.fixture
def model(tmp_path):
    save_study(tmp_path)
    return tmp_path / "model"


def test_code_that_comes_with_a_model_is_not_run(model):
    config = json.loads((model / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModelForCausalLM": "evil.Evil"}}
    (model / "config.json").write_text(json.dumps(config))
    (model / "evil.py").write_text(
        "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\nclass Evil: pass\n"
    )
    with pytest.raises(AdapterlabError):
        load_model(str(model))
    assert not ran(model / "evil.py")


def test_pickled_weights_of_a_model_are_not_read(model):
    class Runs:
        def __reduce__(self):
            return Path.touch, (model / "ran",)

    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(pickle.dumps(Runs()))
    with pytest.raises(AdapterlabError):
        load_model(str(model))
    assert not (model / "ran").exists()
