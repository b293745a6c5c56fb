"""Every method on every architecture: each check holds, or the method refuses in one line and changes nothing."""

from __future__ import annotations

import pytest
import transformers

from adapterlab.errors import AdapterlabError
from adapterlab.surgery import attach
from tests.adapters.methods import ALL, small
from tests.matrix.architectures import ARCHITECTURES
from tests.matrix.checks import CHECKS, NotApplicableError
from tests.matrix.trainers import under_dpo, under_sft, under_trainer

SAMPLE = ("Gemma3", "GPT2", "Mamba", "Bert", "Whisper", "Siglip", "CLIP", "DeepseekV3")
METHODS = ("lora", "hra", "full_ft", "prefix", "prompt", "reft", "xlora")
TRAINERS = {"Trainer": under_trainer, "SFT": under_sft, "DPO": under_dpo}
KNOWN = {
    # The embeddings of relative positions enter every block as a keyword, which torch's reentrant checkpointing runs
    # through twice; so it does when the model itself is trained.
    ("DebertaV2", "reentrant checkpointing", "full_ft"): "Trying to backward through the graph a second time",
}


# X-LoRA's own pass without gradients is checkpointed too; the check compares the gradients themselves.
pytestmark = pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True")


@pytest.fixture(autouse=True)
def quiet():
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    yield
    transformers.logging.set_verbosity(before)


def failures(architecture: str, check: str, methods: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in methods:
        try:
            (CHECKS | TRAINERS)[check](ARCHITECTURES[architecture], small(name))
        except NotApplicableError:
            continue
        except AdapterlabError as refusal:
            if "\n" in str(refusal) or len(str(refusal)) > 400:
                found[name] = f"not one clear line: {refusal}"
        except Exception as error:
            known = KNOWN.get((architecture, check, name))
            if known is None or known not in str(error):
                found[name] = f"{type(error).__name__}: {error}"
    return found


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("architecture", SAMPLE)
def test_a_sample(architecture, check):
    assert not failures(architecture, check, METHODS)


@pytest.mark.parametrize(
    ("architecture", "check"), [*((a, "Trainer") for a in SAMPLE), ("GPT2", "SFT"), ("GPT2", "DPO")]
)
def test_a_sample_under_trainers(architecture, check):
    assert not failures(architecture, check, ("lora",))


@pytest.mark.parametrize("method", ["reft", "prefix", "prompt", "poly", "xlora", "ptuning_v2", "llama_adapter"])
@pytest.mark.parametrize("architecture", ["T5", "Bart", "Whisper", "DeepseekV3"])
def test_a_refusal_names_methods_that_adapt_the_model(architecture, method):
    model = ARCHITECTURES[architecture].make()
    with pytest.raises(AdapterlabError, match=r"not a decoder .*; take a method that adapts linear layers") as refusal:
        attach(model, small(method))
    for name in str(refusal.value).rpartition("such as ")[2].split(" or "):
        handle = attach(model, small(name))
        assert handle.sites
        handle.detach()


@pytest.mark.soak
@pytest.mark.parametrize("check", [*CHECKS, *TRAINERS])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_method_on_every_architecture(architecture, check):
    assert not failures(architecture, check, tuple(ALL))


def test_what_runs_is_more_than_what_is_refused():
    """LoRA runs on all architectures, and Llama takes every method except BitFit, since it has no biases."""
    for architecture in ARCHITECTURES.values():
        CHECKS["no trace"](architecture, small("lora"))
    refused = set()
    for name in ALL:
        try:
            CHECKS["no trace"](ARCHITECTURES["Llama"], small(name))
        except AdapterlabError:
            refused.add(name)
    assert refused == {"bitfit"}
