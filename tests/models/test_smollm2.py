"""The real SmolLM2, where pip can fetch it: it answers, and a trial of it fits in three gibibytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

pytestmark = pytest.mark.soak

TRIAL = """
import json
from pathlib import Path
from adapterlab.adapters import adapter
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Trial
from adapterlab.models.fingerprint import fingerprint
from adapterlab.tasks import task

settings = json.dumps(adapter("lora", rank=8).settings(), sort_keys=True)
trial = Trial(
    model="smollm2", model_hash=fingerprint("smollm2"), task="prose", data=task("prose").fingerprint(), adapter=settings,
    targets="all-linear", lr=1e-3, seed=0, steps=2, batch=4, length=256, parts=("validation",), windows=16,
    curve_every=0, code="",
)
outcome = Runner().run(trial)
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(json.dumps([outcome.status, outcome.scores["validation"][0], int(peak.split()[1]) / 2**20]))
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    done = run(folder, "-m", "adapterlab", "models", "fetch", "smollm2")
    if "pip cannot download" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    return folder


def run(cache: Path, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "ADAPTERLAB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_it_answers(cache):
    (folder,) = (cache / "models").iterdir()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    answer = model.generate(**inputs, max_new_tokens=10, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert tokenizer.decode(answer, skip_special_tokens=True) == "The capital of France is Paris."


def test_lora_on_four_rows_of_256_tokens_takes_at_most_three_gibibytes(cache):
    done = run(cache, "-c", TRIAL)
    assert done.returncode == 0, done.stderr
    status, loss, gibibytes = json.loads(done.stdout)
    assert (status, loss < 1) == ("ok", True)
    assert gibibytes <= 3
