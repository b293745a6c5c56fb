"""One training step of every method beside PEFT's, on a 2-layer Llama shape, in one run.

A step is a forward pass and a backward pass to the input and the adapter, without an optimizer. Every number is a ratio
to the same step of the frozen base, which only passes the gradient on to its input: the limit for any adapter. The frozen
base, LoRA, the method and PEFT's take turns within each round, so that what else the machine does falls on all of them
alike; the ratio is the median over the rounds. Also measured: the time to attach, the bytes that the forward pass keeps
for the backward pass beyond the base's, and a forward pass with the adapter merged.

    python benchmarks/adapters.py --methods lora hra --tokens 64 512 --rounds 15
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import json
import platform
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import peft
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from adapterlab.adapters import all_adapters
from adapterlab.adapters.base import Adapter
from adapterlab.surgery import attach
from adapterlab.surgery.factors import FactorCache

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Contest:
    """The same sizes on both sides; `theirs` is None where PEFT lacks the method."""

    ours: Mapping[str, Any] = field(default_factory=dict)
    theirs: Callable[[], peft.PeftConfig] | None = None


def lora(**settings: Any) -> peft.PeftConfig:
    return peft.LoraConfig(r=8, lora_alpha=16, target_modules=LINEARS, **settings)


def on_linears(config: type[peft.PeftConfig], **settings: Any) -> Callable[[], peft.PeftConfig]:
    return lambda: config(target_modules=LINEARS, **settings)


def for_tokens(config: type[peft.PeftConfig], **settings: Any) -> Callable[[], peft.PeftConfig]:
    return lambda: config(task_type=peft.TaskType.CAUSAL_LM, **settings)


CONTESTS = {
    "lora": Contest({"rank": 8}, lora),
    "pissa": Contest({"rank": 8}, lambda: lora(init_lora_weights="pissa")),
    "adalora": Contest(
        {"rank": 8},
        on_linears(peft.AdaLoraConfig, init_r=8, target_r=8, total_step=100, tinit=10, tfinal=10),
    ),
    "psoft": Contest({"rank": 32}, on_linears(peft.PsoftConfig, r=32)) if hasattr(peft, "PsoftConfig") else Contest(),
    "oft": Contest({"block_size": 32}, on_linears(peft.OFTConfig, oft_block_size=32, use_cayley_neumann=False)),
    "oftv2": Contest({"block_size": 32}, on_linears(peft.OFTConfig, oft_block_size=32, use_cayley_neumann=True)),
    "boft": Contest(
        {"block_size": 8, "factors": 2, "rescale": True},
        on_linears(peft.BOFTConfig, boft_block_size=8, boft_n_butterfly_factor=2),
    ),
    "hra": Contest({"rank": 8}, on_linears(peft.HRAConfig, r=8)),
    "road": Contest({"variant": 1, "group_size": 64}, on_linears(peft.RoadConfig, variant="road_1", group_size=64)),
    "dora": Contest({"rank": 8}, lambda: lora(use_dora=True)),
    "delora": Contest({"rank": 8}, on_linears(peft.DeloraConfig, r=8)),
    "ia3": Contest({}, on_linears(peft.IA3Config, feedforward_modules=["down_proj"])),
    "vera": Contest({"rank": 256}, on_linears(peft.VeraConfig, r=256)),
    "ln_tuning": Contest(
        {}, lambda: peft.LNTuningConfig(target_modules=["input_layernorm", "post_attention_layernorm", "norm"])
    ),
    "randlora": Contest({"rank": 32}, on_linears(peft.RandLoraConfig, r=32)),
    "c3a": Contest({"block_size": 256}, on_linears(peft.C3AConfig, block_size=256)),
    "fourierft": Contest({"n": 1000}, on_linears(peft.FourierFTConfig, n_frequency=1000)),
    "loha": Contest({"rank": 8}, on_linears(peft.LoHaConfig, r=8, alpha=8)),
    "lokr": Contest({"rank": 8, "factor": 0}, on_linears(peft.LoKrConfig, r=8, alpha=8)),
    "miss": Contest({"rank": 64}, on_linears(peft.MissConfig, r=64)),
    "bone": Contest({"block_size": 64}, on_linears(peft.MissConfig, r=64, init_weights="bat")),
    "vblora": Contest({"rank": 4}, on_linears(peft.VBLoRAConfig, r=4, num_vectors=256, vector_length=256)),
    "shira": Contest({"rank": 32}, on_linears(peft.ShiraConfig, r=32)),
    "prompt": Contest({}, for_tokens(peft.PromptTuningConfig, num_virtual_tokens=20)),
    "prefix": Contest({}, for_tokens(peft.PrefixTuningConfig, num_virtual_tokens=20, prefix_projection=True)),
    "ptuning_v2": Contest({}, for_tokens(peft.PrefixTuningConfig, num_virtual_tokens=20)),
    "llama_adapter": Contest({}, for_tokens(peft.AdaptionPromptConfig, adapter_len=10, adapter_layers=2)),
}
"""Whatever is not here has no counterpart and runs with its defaults."""


def base_model(device: torch.device, dtype: torch.dtype) -> LlamaForCausalLM:
    """Two layers, 1024 wide, 2816 in the feed-forward block; next to no vocabulary."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=2,
        num_attention_heads=16,
        num_key_value_heads=16,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).to(device=device, dtype=dtype).train()


def twin_of(model: nn.Module) -> nn.Module:
    """A copy that shares the base's tensors."""
    return copy.deepcopy(model, {id(t): t for t in (*model.parameters(), *model.buffers())})


class Runner:
    """A model and its steps."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        self.model, self.x = model, x
        self.trained = [p for p in model.parameters() if p.requires_grad]

    def step(self) -> None:
        x = self.x.detach().requires_grad_()
        for p in self.trained:
            p.grad = None
        self.model(inputs_embeds=x, use_cache=False).logits.float().square().mean().backward()

    @torch.no_grad()
    def infer(self) -> None:
        self.model(inputs_embeds=self.x, use_cache=False)

    def kept(self) -> int:
        """The bytes of all storages, the model's own left out, that a forward pass keeps for its backward pass."""
        own = {t.untyped_storage().data_ptr() for t in (*self.model.parameters(), *self.model.buffers())}
        seen: dict[int, int] = {}
        alive = []  # so that no address is used twice

        def note(t: Tensor) -> Tensor:
            alive.append(t)
            for part in (t._indices(), t._values()) if t.is_sparse else (t,):
                seen[part.untyped_storage().data_ptr()] = part.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
            logits = self.model(inputs_embeds=self.x.detach().requires_grad_(), use_cache=False).logits
        del logits
        return sum(size for pointer, size in seen.items() if pointer not in own)


def timed(run: Callable[[], None], device: torch.device) -> float:
    """Seconds that one call takes, whatever it started on the device included."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def interleaved(runs: Mapping[str, Callable[[], None]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    """The times of each, taking turns, after two turns that do not count; every other round goes backwards."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 2):
        order = list(runs) if turn % 2 else list(runs)[::-1]
        for name in order:
            seconds = timed(runs[name], device)
            if turn >= 2:
                times[name].append(seconds)
    return times


def ratio(times: list[float], reference: list[float]) -> float:
    return median(a / b for a, b in zip(times, reference, strict=True))


def method_of(name: str) -> Adapter:
    """Ours, with those of the contest's settings that it has."""
    kind = all_adapters()[name]
    known = {f.name for f in dataclasses.fields(kind)}
    return kind(**{key: value for key, value in CONTESTS.get(name, Contest()).ours.items() if key in known})


def measure(name: str, base: LlamaForCausalLM, x: Tensor, rounds: int) -> dict[str, Any]:
    """Everything about one method at one length; what fails says so instead of ending the run."""
    device = x.device
    frozen = twin_of(base)
    frozen.requires_grad_(False)
    reference = twin_of(base)
    attach(reference, all_adapters()["lora"](rank=8))
    runners = {"frozen": Runner(frozen, x), "lora": Runner(reference, x)}
    row: dict[str, Any] = {"method": name}
    sides: dict[str, Any] = {}

    def ours() -> tuple[nn.Module, Any]:
        method = method_of(name)
        row["settings"] = str(method)
        # Memory that a copy cannot share is the method's own doing only if it comes after this.
        model = twin_of(base)
        handles = []
        seconds = timed(lambda: handles.append(attach(model, method, factors=FactorCache())), device)
        return model, (handles[0], seconds)

    def theirs() -> tuple[nn.Module, Any]:
        config = CONTESTS[name].theirs()
        model = copy.deepcopy(base)  # PEFT may change the base's tensors
        built = []
        seconds = timed(lambda: built.append(peft.get_peft_model(model, config)), device)
        return built[0].train(), (None, seconds)

    for side, make in (("ours", ours), ("peft", theirs)):
        if side == "peft" and CONTESTS.get(name, Contest()).theirs is None:
            continue
        try:
            model, sides[side] = make()
            runner = Runner(model, x)
            with torch.no_grad():  # off the start, where a factor of zero would make the arithmetic easy
                for p in runner.trained:
                    p.add_(torch.randn_like(p) * 0.01)
            runner.step()
            row[f"{side}_parameters"] = sum(p.numel() for p in runner.trained)
            row[f"{side}_attach_ms"] = 1e3 * sides[side][1]
            row[f"{side}_kept_mib"] = (runner.kept() - runners["frozen"].kept()) / 2**20
            runners[side] = runner
        except Exception as error:
            row[f"{side}_failed"] = f"{type(error).__name__}: {error}".splitlines()[0]

    times = interleaved({side: runner.step for side, runner in runners.items()}, rounds, device)
    row["frozen_ms"] = 1e3 * median(times["frozen"])
    row["lora_step"] = ratio(times["lora"], times["frozen"])
    for side in ("ours", "peft"):
        if side in runners:
            row[f"{side}_step"] = ratio(times[side], times["frozen"])
    if "ours" in runners:
        row["over_lora"] = ratio(times["ours"], times["lora"])
        if "peft" in runners:
            row["speedup"] = ratio(times["peft"], times["ours"])
    merged(row, runners, sides, rounds, device)
    return row


def merged(
    row: dict[str, Any], runners: dict[str, Runner], sides: Mapping[str, Any], rounds: int, device: torch.device
) -> None:
    """A forward pass of each side with its adapter merged, over the frozen base's."""
    runs = {"frozen": runners["frozen"].infer}
    if "ours" in runners and sides["ours"][0].adapter.mergeable:
        sides["ours"][0].merge()
        runs["ours"] = runners["ours"].infer
    if "peft" in runners:
        try:
            runs["peft"] = Runner(runners["peft"].model.merge_and_unload(), runners["peft"].x).infer
        except Exception:
            row["peft_merge"] = "none"
    times = interleaved(runs, max(3, rounds // 3), device)
    for side in ("ours", "peft"):
        if side in runs:
            row[f"{side}_merged"] = ratio(times[side], times["frozen"])


COLUMNS = [
    ("method", "method", "{}"),
    ("ours", "ours_step", "{:.2f}"),
    ("PEFT", "peft_step", "{:.2f}"),
    ("PEFT / ours", "speedup", "{:.2f}"),
    ("ours / LoRA", "over_lora", "{:.2f}"),
    ("merged", "ours_merged", "{:.2f}"),
    ("merged, PEFT", "peft_merged", "{:.2f}"),
    ("kept, MiB", "ours_kept_mib", "{:.1f}"),
    ("kept, PEFT", "peft_kept_mib", "{:.1f}"),
    ("attach, ms", "ours_attach_ms", "{:.0f}"),
    ("attach, PEFT", "peft_attach_ms", "{:.0f}"),
    ("parameters", "ours_parameters", "{:,}"),
    ("parameters, PEFT", "peft_parameters", "{:,}"),
]


def line(row: Mapping[str, Any]) -> str:
    cells = [form.format(row[key]) if key in row else "" for _, key, form in COLUMNS]
    return f"| {' | '.join(cells)} |"


def table(rows: list[Mapping[str, Any]]) -> str:
    head = [f"| {' | '.join(title for title, _, _ in COLUMNS)} |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    failed = [
        f"- {row['method']}, {side}: {row[f'{side}_failed']}"
        for row in rows
        for side in ("ours", "peft")
        if f"{side}_failed" in row
    ]
    return "\n".join([*head, *map(line, rows), *(["", *failed] if failed else [])])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", help="only these (default: all that PEFT has, and ours)"
    )
    parser.add_argument("--tokens", nargs="+", type=int, default=[64, 512], help="lengths of the 4 sequences")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, help="without a suffix (default: results/adapters-DEVICE-DTYPE)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore")
    # A Llama has no biases, and the bench feeds vectors, not tokens.
    known = [name for name in all_adapters() if name not in ("full_ft", "bitfit", "trainable_tokens")]
    unknown = sorted(set(arguments.methods or ()) - set(all_adapters()))
    if unknown:
        parser.error(f"unknown method: {', '.join(unknown)}; known: {', '.join(all_adapters())}")
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {arguments.threads} thread(s)"
    setting = {
        "machine": f"{where}, {platform.machine()}",
        "torch": torch.__version__,
        "peft": peft.__version__,
        "dtype": arguments.dtype,
        "rounds": arguments.rounds,
    }
    base = base_model(device, dtype)
    results: dict[str, Any] = {"setting": setting, "lengths": {}}
    text = ["# Adapters beside PEFT's", "", ", ".join(f"{key} {value}" for key, value in setting.items())]
    text.append(
        "Steps over the frozen base's, which is 1.0; what each number means is said in `benchmarks/adapters.py`."
    )
    for tokens in arguments.tokens:
        x = torch.randn(4, tokens, 1024, generator=torch.Generator().manual_seed(1)).to(device=device, dtype=dtype)
        rows = []
        print(f"4 x {tokens} tokens", flush=True)
        for name in arguments.methods or known:
            rows.append(measure(name, base, x, arguments.rounds))
            print(line(rows[-1]), *(v for k, v in rows[-1].items() if k.endswith("_failed")), flush=True)
        results["lengths"][str(tokens)] = rows
        frozen = median(row["frozen_ms"] for row in rows)
        step = median(row["lora_step"] for row in rows)
        text += ["", f"## 4 x {tokens} tokens", ""]
        text += [f"The frozen base's step takes {frozen:.0f} ms, LoRA's {step:.2f} times that.", "", table(rows)]
    stem = arguments.out or RESULTS / f"adapters-{device.type}-{arguments.dtype}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    stem.with_suffix(".md").write_text("\n".join(text) + "\n")
    print(f"written: {stem}.json, {stem}.md")


if __name__ == "__main__":
    main()
