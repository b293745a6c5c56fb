"""What many tests need: small models made here, and the shape checker on every signature."""

from __future__ import annotations

import os
import sys
import tempfile

from jaxtyping import install_import_hook

os.environ["ADAPTERLAB_CACHE"] = tempfile.mkdtemp(prefix="adapterlab-cache-")
os.environ["ADAPTERLAB_CONFIG"] = tempfile.mkdtemp(prefix="adapterlab-config-")
os.environ["HF_HUB_OFFLINE"] = "1"
_hook = install_import_hook(["adapterlab.adapters", "adapterlab.geometry", "adapterlab.surgery"], "beartype.beartype")

import pytest  # noqa: E402
import torch  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM  # noqa: E402

from adapterlab.adapters.base import Adapter  # noqa: E402
from adapterlab.tasks.base import Task  # noqa: E402

torch.set_num_threads(1)  # the models are tiny, and several test processes share the cores


@pytest.fixture(scope="session", autouse=True)
def bfloat16_is_slow():
    """Studies that choose their precision choose float32 on every processor; `test_precision.py` measures the speed.

    On a processor with fast products in bfloat16, each study of the embedded model would first train to compare losses.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adapterlab.lab.run.precision_check.measure_speedup", lambda device, shape: 0.1)
        yield


@pytest.fixture(autouse=True)
def what_a_test_defines_goes_with_it():
    """Adapters and tasks of files that a test loads are known in that test alone."""
    registries, modules = (Adapter.registry, Task.registry), set(sys.modules)
    before = [dict(registry) for registry in registries]
    yield
    for registry, known in zip(registries, before, strict=True):
        for name in registry.keys() - known.keys():
            if registry[name].__module__.startswith("adapterlab_file_"):
                del registry[name]
    for module in set(sys.modules) - modules:
        if module.startswith("adapterlab_file_"):
            del sys.modules[module]


def tiny_llama(seed: int = 0, **changes) -> LlamaForCausalLM:
    """Two layers, grouped-query attention with biases, tied embeddings."""
    torch.manual_seed(seed)
    shape = {
        "vocab_size": 64,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
        "attention_bias": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
    }
    return LlamaForCausalLM(LlamaConfig(**(shape | changes))).eval()


def tiny_gpt2(seed: int = 0) -> GPT2LMHeadModel:
    """GPT-2, whose linear layers are `Conv1D`, stored transposed and with a bias."""
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config).eval()


@pytest.fixture
def llama() -> LlamaForCausalLM:
    return tiny_llama()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(3))
