"""The performance page shows the result files, and the benchmark resumes where it stopped."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from adapterlab.surgery import parameter_count
from benchmarks import adapters
from benchmarks.beside_peft import page
from benchmarks.beside_peft.comparisons import MODELS, base_model, method_of
from benchmarks.beside_peft.measure import Bench

ROW = {"frozen_ms": 100.0, "lora_step": 1.2, "ours_step": 1.5, "peft_step": 1.2, "speedup": 0.8, "over_lora": 1.25}


def test_the_page_shows_the_result_files():
    text = page.PAGE.read_text()
    assert text.count(page.START) == text.count(page.END) == 1
    assert page.rendered(text) == text, "run: python -m benchmarks.adapters --page"
    assert list(page.RESULTS.glob("adapters-*.json"))


def test_every_comparison_is_of_a_known_method():
    for case in adapters.cases().values():
        assert method_of(case.name, MODELS[case.model], case.size).name in case.name


@pytest.mark.parametrize("model", MODELS)
def test_every_size_fits_its_model(model):
    """Ours and PEFT's have the same number of parameters, where the two count alike."""
    for case in adapters.cases([model]).values():
        method = method_of(case.name, MODELS[model], case.size)
        with torch.device("meta"):
            base = base_model(torch.device("meta"), torch.float32, MODELS[model])
        assert parameter_count(base, method) > 0, case


def test_other_models_and_sizes_have_tables_of_their_own():
    row = {"lengths": {"64": {"speedup": 0.9, "over_lora": 1.5}}}
    results = {
        "setting": {"device": "CPU", "dtype": "float32"},
        "methods": {"lora, 256, small": row, "svft, random, 256, usual": row},
    }
    text = page.shapes(results)
    assert "| lora | 0.90 |  | 1.50 |  |" in text
    assert "| svft, random |  | 0.90 |  | 1.50 |" in text
    assert "Slower than PEFT by more than 5 %: lora, small 0.90; svft, random, usual 0.90." in text


def test_missed_targets_are_listed():
    rows = {
        "lora": ROW,
        "hra": ROW | {"speedup": 7.0, "over_lora": 2.5},
        "goft": ROW | {"over_lora": 2.5, "speedup": 1},
    }
    text = page.missed(rows)
    assert "lora 0.80 (target 0.95), hra 7.00 (target 8.0)" in text
    assert text.endswith("*ours / LoRA*: hra 2.50 (target 2.0).")


@pytest.fixture
def counted(monkeypatch):
    """The benchmark with a tiny model; gives the list of its measurements."""
    measured = []
    own = Bench.measure

    def measure(self, name, lengths, seconds, size="usual"):
        measured.append((name, tuple(lengths)))
        return own(self, name, lengths, seconds, size)

    monkeypatch.setattr(Bench, "measure", measure)
    shape = dataclasses.replace(MODELS["1024"], hidden=64, intermediate=128)
    monkeypatch.setitem(MODELS, "1024", shape)
    return measured


def run(out, *more):
    adapters.main(["--threads", "1", "--seconds-per-method", "0", "--out", str(out), *more])
    return json.loads(out.read_text())["methods"]


def test_a_second_run_measures_only_what_is_missing(counted, tmp_path):
    out = tmp_path / "results.json"
    run(out, "--methods", "lora", "--tokens", "4")
    rows = run(out, "--methods", "reft", "lora", "--tokens", "4", "8")
    assert counted == [("lora", (4,)), ("reft", (4, 8)), ("lora", (8,))]
    assert list(rows) == ["lora", "reft"]
    assert list(rows["lora"]["lengths"]) == ["4", "8"]
    for row in rows["lora"]["lengths"].values():
        assert row["rounds"] >= 3
        assert row["speedup"] > 0
        assert row["over_lora"] > 0
    assert not any(key.endswith("_failed") for row in rows.values() for key in row)
    run(out, "--methods", "lora", "--tokens", "4", "--fresh")
    assert counted[-1] == ("lora", (4,))


def test_results_of_another_setting_are_not_mixed(counted, tmp_path, capsys):
    out = tmp_path / "results.json"
    run(out, "--methods", "ia3", "--tokens", "4")
    with pytest.raises(SystemExit):
        run(out, "--methods", "ia3", "--tokens", "4", "--dtype", "bfloat16")
    assert "another setting" in capsys.readouterr().err
    assert run(out, "--methods", "ia3", "--tokens", "4", "--dtype", "bfloat16", "--fresh")
    assert len(counted) == 2


def test_the_named_methods_are_known(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path / "results.json", "--methods", "lara")
    assert "unknown method: lara" in capsys.readouterr().err
