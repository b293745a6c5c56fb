"""Compare the defaults of each method with the best of a random search over its own settings.

    python benchmarks/settings_search.py [METHOD ...] [--draws 30] [--seed 0] [--flag]

The defaults are trained at the rates of a wide grid, from the middle until the best rate has a worse one on either side.
Then 30 settings are drawn, each with a rate within a factor of ten of that best rate. Every trial has the same size,
task and number of steps. The best draw and the defaults are trained again with other seeds, on which the winner of many
noisy trials has no advantage; the gains over the frozen model on these seeds are compared.

Each trial is written to `benchmarks/results/settings/METHOD.json` as soon as it is finished, and a search that was
interrupted resumes from that file. `--flag` trains nothing: it writes `adapterlab/lab/analysis/undertuned.toml` from the
recorded searches, with every method whose best draw gained over a tenth more than its defaults.
"""

from __future__ import annotations

import argparse
import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from adapterlab.adapters import adapter
from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.spec import Study
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import FROZEN, Trial
from adapterlab.models.fingerprint import EMBEDDED
from adapterlab.models.loading import load_causal
from adapterlab.resources import shipped
from adapterlab.surgery import parameter_count, sized
from adapterlab.tasks.base import Part

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/settings"
FLAGS = ROOT / "adapterlab/lab/analysis/undertuned.toml"
BUDGET = 160_000
TASK = "prose"
STEPS, BATCH, LENGTH, WINDOWS = 20, 4, 128, 16
SEARCH_SEED, CONFIRMING_SEEDS = 11, (12, 13)
START = (-3.0, -2.0)
"""Logarithms of the rates that the grid begins with; it continues in steps of half a decade, from `LOWEST` to `HIGHEST`."""
LOWEST, HIGHEST = -5.0, 1.0
ALLOWED = 0.1
"""Largest share of the best draw's gain by which that of the defaults may be smaller."""

Draw = Callable[[random.Random], Any]


def around(default: float, factor: float = 10.0) -> Draw:
    """Return a draw of a positive number within a factor of a default, uniform on the log scale.

    Args:
        default: The default.
        factor: Largest ratio to the default.
    """
    return lambda dice: float(f"{default * math.exp(dice.uniform(-1, 1) * math.log(factor)):.3g}")


def one_of(*values: object) -> Draw:
    """Return a draw of one of the values, all equally likely.

    Args:
        *values: The values.
    """
    return lambda dice: dice.choice(values)


SPACES: dict[str, dict[str, Draw]] = {
    "adalora": {
        "alpha": around(16),
        "keep": one_of(0.5, 2 / 3, 0.8),
        "penalty": one_of(0.0, 0.01, 0.1, 0.5),
        "warmup_steps": one_of(50, 100, 200),
        "final_steps": one_of(200, 500, 600),
    },
    "antipasto": {"max_angle": one_of(0.3, 0.6, math.pi / 3, 2.0), "noise": one_of(0.0, 0.003, 0.0085)},
    "boft": {"factors": one_of(1, 2, 3), "rescale": one_of(False, True)},
    "clover": {"queries": one_of(False, True)},
    "delora": {
        "boundary": around(8),
        "boundary_lr_ratio": one_of(0.05, 0.2, 0.5, 1.0),
        "zero_start": one_of(False, True),
        "frobenius": one_of(False, True),
    },
    "dora": {"alpha": around(16)},
    "ether": {"block_count": one_of(1, 2, 4, 8, 16)},
    "ether_plus": {"block_count": one_of(1, 2, 4, 8, 16)},
    "fourierft": {"alpha": around(300), "zero_start": one_of(False, True)},
    "goft": {"soft": one_of(False, True), "penalty": one_of(0.0, 0.128, 1.28, 6.4)},
    "hra": {"penalty": one_of(0.0, 6.4e-4, 6.4e-3, 6.4e-2)},
    "llama_adapter": {"per_head": one_of(False, True), "squash": one_of(False, True), "layers": one_of(0, 2, 3)},
    "loha": {"alpha": around(2)},
    "lokr": {"alpha": around(8), "factor": one_of(2, 4, 8), "both": one_of(False, True)},
    "lora": {"alpha": around(16), "lr_ratio": one_of(1.0, 4.0, 16.0)},
    "oft": {"block_share": one_of(False, True)},
    "oftv2": {"neumann_terms": one_of(3, 5, 7)},
    "poly": {
        "alpha": around(1),
        "skills": one_of(2, 4, 8),
        "relaxed": one_of(False, True),
        "router_lr_ratio": one_of(1.0, 10.0, 100.0),
    },
    "psoft": {"relaxed": one_of(False, True)},
    "randlora": {"alpha": around(640), "sparsity": one_of(0.0, 3.0)},
    "reft": {
        "variant": one_of("loreft", "direft", "direft_orthonormal"),
        "identity_start": one_of(False, True),
        "where": one_of("prompt", "everywhere"),
    },
    "road": {"group_size": one_of(2, 16, 64)},
    "shira": {"mask": one_of("random", "magnitude", "gradient", "snip")},
    "ssvd": {"rotation": one_of("approximate", "strict", "free")},
    "svft": {"pattern": one_of("plain", "banded", "random")},
    "vblora": {
        "rank": one_of(2, 4, 8),
        "top": one_of(1, 2, 3),
        "length": one_of(16, 32, 64),
        "bank_lr_ratio": one_of(0.03, 0.1, 0.3, 1.0),
    },
    "vera": {"d_initial": one_of(1e-3, 1e-2, 0.1, 1.0)},
    "xlora": {"alpha": around(16), "experts": one_of(2, 4, 8), "temperature": one_of(0.5, 1.0, 2.0)},
}
"""By method, the settings that are drawn; of a method that is not here only the rate is."""


@dataclass
class Search:
    """The search of one contestant, in its file."""

    name: str
    study: Study
    file: Path
    runner: Runner

    def __post_init__(self) -> None:
        self.record: dict[str, Any] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.record.setdefault("trials", [])
        self.entry = next(entry for entry in self.study.contestants if entry.name == self.name)

    def loss(self, stage: str, method: Adapter | None, lr: float, seed: int, extra: Mapping[str, Any]) -> float:
        """Return the validation loss of a trial, infinite if it diverged; trained unless it is on record.

        Args:
            stage: Part of the search that the trial belongs to.
            method: The sized adapter; None for the frozen model.
            lr: Learning rate.
            seed: Seed of the run.
            extra: Settings that differ from the contestant's own.
        """
        key = {"stage": stage, "settings": dict(extra), "lr": lr, "seed": seed}
        for trial in self.record["trials"]:
            if all(trial[name] == value for name, value in key.items()):
                return math.inf if trial["loss"] is None else float(trial["loss"])
        settings = {"name": FROZEN} if method is None else method.settings()
        outcome = self.runner.run(
            Trial(
                model=EMBEDDED,
                model_hash="",
                task=TASK,
                data="",
                adapter=json.dumps(settings, sort_keys=True),
                targets=self.entry.targets,
                lr=lr,
                seed=seed,
                steps=STEPS if method is not None else 0,
                batch=BATCH,
                length=LENGTH,
                parts=(Part.VALIDATION,),
                windows=WINDOWS,
                curve_every=0,
                code="",
            )
        )
        loss = outcome.validation
        self.record["trials"].append({**key, "loss": loss if math.isfinite(loss) else None})
        self.save()
        print(f"{self.name:16} {stage:10} {lr:<9.3g} seed {seed:<3} {loss:.4f} {json.dumps(dict(extra))}", flush=True)
        return loss

    def save(self) -> None:
        """Write the record."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(".partial")
        partial.write_text(json.dumps(self.record, indent=1) + "\n")
        partial.replace(self.file)

    def sized(self, extra: Mapping[str, Any]) -> Adapter:
        """Return the contestant's adapter with other settings, at the size of the study.

        Args:
            extra: The settings that differ.

        Raises:
            AdapterlabError: If the settings do not fit the model.
        """
        made = adapter(self.entry.adapter, **{**self.entry.settings, **extra})
        return sized(made, load_causal().model, self.entry.budget or BUDGET, self.entry.targets, strict=False)

    def run(self, draws: int, seed: int) -> None:
        """Run what is missing of the search.

        Args:
            draws: Number of random settings.
            seed: Seed of the draws.
        """
        self.record |= {
            "command": f"python benchmarks/settings_search.py {self.name} --draws {draws} --seed {seed}",
            "task": TASK,
            "steps": STEPS,
            "budget": self.entry.budget or BUDGET,
            "draws": draws,
            "seed": seed,
            "frozen": self.loss("frozen", None, 0.0, 0, {}),
        }
        plain = self.sized({})
        self.record["defaults"] = plain.settings()
        best_rate, default_loss = best_of_grid(lambda lr: self.loss("grid", plain, lr, SEARCH_SEED, {}))
        dice = random.Random(f"{seed} {self.name}")
        best: tuple[float, float, dict[str, Any]] = (default_loss, best_rate, {})
        for _ in range(draws):
            lr = around(best_rate)(dice)
            extra, method = self.drawn(dice)
            best = min(best, (self.loss("draw", method, lr, SEARCH_SEED, extra), lr, extra), key=lambda found: found[0])
        _, lr, extra = best
        frozen, better = self.record["frozen"], self.sized(extra)
        gains = {
            "defaults": [frozen - self.loss("confirm", plain, best_rate, s, {}) for s in CONFIRMING_SEEDS],
            "best draw": [frozen - self.loss("confirm", better, lr, s, extra) for s in CONFIRMING_SEEDS],
        }
        self.record["found"] = {
            "rate": best_rate,
            "best draw": {"lr": lr, "settings": extra},
            "gain": {name: fmean(values) for name, values in gains.items()},
        }
        self.save()

    def drawn(self, dice: random.Random) -> tuple[dict[str, Any], Adapter]:
        """Return random settings that fit the model and the budget, and the sized adapter.

        Args:
            dice: Source of the draws.
        """
        most = max(self.size(self.sized({})), self.entry.budget or BUDGET)
        while True:
            extra = {name: draw(dice) for name, draw in SPACES.get(self.entry.adapter, {}).items()}
            try:
                method = self.sized(extra)
                if self.size(method) <= most:
                    return extra, method
            except AdapterlabError:
                continue

    def size(self, method: Adapter) -> int:
        """Return the number of parameters of an adapter that count against the budget.

        Args:
            method: The adapter.

        Raises:
            AdapterlabError: If its settings do not fit the model.
        """
        return method.counted(parameter_count(load_causal().model, method, self.entry.targets))


def best_of_grid(loss_of: Callable[[float], float]) -> tuple[float, float]:
    """Return the best rate of the wide grid, which has a worse one on either side unless it is on an edge, and its loss.

    Args:
        loss_of: Trains at a rate; returns the loss, infinite if it diverged.
    """
    losses: dict[float, float] = {}
    wanted = list(START)
    while wanted:
        losses |= {log: loss_of(rate(log)) for log in wanted}
        best = min(losses, key=lambda log: (losses[log], log))
        wanted = [log for log in (best - 0.5, best + 0.5) if log not in losses and LOWEST <= log <= HIGHEST]
    return rate(best), losses[best]


def rate(log: float) -> float:
    """Return a rate of the grid, to three digits.

    Args:
        log: Its decimal logarithm.
    """
    return float(f"{10**log:.3g}")


def flags(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text of the file of undertuned methods.

    Args:
        records: By contestant, the record of its search.
    """
    done = {name: record["found"] for name, record in records.items() if "found" in record}
    lines = [
        "# Contestants of the study `full` whose settings were searched at random by benchmarks/settings_search.py. A table",
        "# marks one whose best draw gained over a tenth more than its defaults: it may do better than a study shows.",
        f"searched = {json.dumps(sorted(done))}",
    ]
    for name, found in sorted(done.items()):
        own, best = found["gain"]["defaults"], found["gain"]["best draw"]
        if own < (1 - ALLOWED) * best:
            drawn = found["best draw"]
            settings = ", ".join(f"{key}={value}" for key, value in drawn["settings"].items()) or "another rate alone"
            lines += [
                "",
                f"[{name}]",
                f"gain = {own:.4f}",
                f"best = {best:.4f}",
                f'settings = "{settings}"',
                f"lr = {drawn['lr']:g}",
            ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="contestants of the study `full` (default: all)")
    parser.add_argument("--draws", type=int, default=30, help="random settings for each method")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draws")
    parser.add_argument("--flag", action="store_true", help="train nothing; write undertuned.toml from the records")
    options = parser.parse_args()
    if options.flag:
        FLAGS.write_text(flags({file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}))
        return
    study, runner = load_study(shipped("studies", "full.toml")), Runner()
    for name in options.methods or [entry.name for entry in study.contestants]:
        Search(name, study, RESULTS / f"{name}.json", runner).run(options.draws, options.seed)


if __name__ == "__main__":
    main()
