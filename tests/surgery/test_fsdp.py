"""Adapters on a model that FSDP2 divides over two processes train, and are saved, as on one process."""

from __future__ import annotations

import json

import pytest
import torch
from peft import PeftModel
from transformers import LlamaForCausalLM

from adapterlab.adapters import all_adapters
from adapterlab.surgery import load
from tests.adapters.methods import ALL
from tests.conftest import tiny_llama
from tests.surgery.fsdp_worker import BF16, FLOAT32, MIXED, losses, train_all

SAMPLE = ["lora", "hra", "oft", "full_ft", "prefix"]
CI = [*((name, FLOAT32) for name in SAMPLE), ("lora", MIXED), ("lora", BF16)]
LONG = [(name, precision) for name in ALL for precision in (FLOAT32, MIXED, BF16) if (name, precision) not in CI]
CASES = [*CI, *(pytest.param(*case, marks=pytest.mark.soak) for case in LONG)]
TOLERANCE = {FLOAT32: 1e-4, MIXED: 5e-2, BF16: 5e-2}
"""Of losses; bf16 has a precision of 0.4 %."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fsdp")


@pytest.fixture(scope="module")
def found(request, folder):
    """The measurements of the processes for the chosen cases."""
    chosen = [item.callspec.params for item in request.session.items if item.path == request.path]
    cases = list(dict.fromkeys((case["name"], case["precision"]) for case in chosen if "precision" in case))
    return train_all(cases, folder)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_a_step_on_two_processes_is_that_on_one(name, precision, found):
    for own in found[name, precision]:
        assert not isinstance(own, str), own
        for when in ("before", "after"):
            error = (own["two"][when] - own["one"][when]).abs().max()
            assert error <= TOLERANCE[precision], f"{when}: {error:.1e}"
        if precision == FLOAT32:
            assert not torch.equal(own["one"]["after"], own["one"]["before"]), "nothing was trained"
            for one, two in zip(own["one"]["parameters"], own["two"]["parameters"], strict=True):
                torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_what_was_saved_loads_on_one_process(name, precision, found, folder):
    own = found[name, precision][0]
    for part in ("", "pretrained", "from_state_dict"):
        model = tiny_llama().to(torch.bfloat16 if precision == BF16 else torch.float32)
        handle = load(model, folder / f"{name}-{precision}" / part)
        for loaded, two in zip(handle.parameters(), own["two"]["parameters"], strict=True):
            assert torch.equal(loaded.float(), two), part
        if precision != MIXED:  # which computes in bf16 with the saved float32
            torch.testing.assert_close(losses(model), own["two"]["after"], rtol=0, atol=TOLERANCE[precision] / 10)


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_the_merged_model_is_gathered_or_refused(name, precision, found, folder):
    for own in found[name, precision]:
        assert ("merged" in own["refused"]) != all_adapters()[name].mergeable
        assert torch.equal(own["again"], own["two"]["after"]), "writing the merged model changed the attached one"
    if all_adapters()[name].mergeable:
        merged = LlamaForCausalLM.from_pretrained(folder / f"{name}-{precision}" / "merged")
        assert merged.dtype == (torch.bfloat16 if precision == BF16 else torch.float32)
        torch.testing.assert_close(losses(merged), own["two"]["after"], rtol=0, atol=10 * TOLERANCE[precision])


@pytest.mark.parametrize(("name", "precision"), [("lora", FLOAT32), ("oft", FLOAT32)])
def test_the_exported_adapter_is_gathered(name, precision, found, folder):
    model = PeftModel.from_pretrained(tiny_llama(), folder / f"{name}-{precision}" / "peft")
    own = found[name, precision][0]
    torch.testing.assert_close(losses(model), own["two"]["after"], rtol=0, atol=1e-4)
    assert "peft" not in own["refused"]


@pytest.mark.parametrize(("name", "precision"), CI)
def test_the_base_is_computed_while_the_adapter_is_disabled(name, precision, found):
    base = tiny_llama().to(torch.bfloat16 if precision == BF16 else torch.float32)
    for own in found[name, precision]:
        torch.testing.assert_close(own["base"], losses(base), rtol=0, atol=TOLERANCE[precision])


@pytest.mark.parametrize(("name", "precision"), [("lora", FLOAT32), ("full_ft", FLOAT32)])
def test_deltas_are_those_of_the_saved_adapter(name, precision, found, folder):
    deltas = load(tiny_llama(), folder / f"{name}-{precision}").deltas()
    for own in found[name, precision]:
        assert own["deltas"].keys() == deltas.keys()
        for path, delta in deltas.items():
            torch.testing.assert_close(own["deltas"][path], delta, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "precision"), [("lora", FLOAT32)])
def test_what_cannot_be_done_is_refused_in_one_line(name, precision, found, folder):
    for own in found[name, precision]:
        for what, fix in (("merge", "save_merged"), ("detach", "handle.disabled()"), ("attach", "before fully_shard")):
            message = own["refused"][what]
            assert "fully_shard" in message
            assert fix in message
            assert "\n" not in message
    assert json.loads((folder / f"{name}-{precision}" / "adapter.json").read_text())["adapter"]["name"] == name
