"""Write the tables of published results that come with the package, from the sources' own data.

    python tools/evidence_tables.py SOURCES

Each table states its flaws. Methods have this package's names where it has the method; variants that a table has besides a
method's main row have other names, so that a claim about the method is tested by one row.

>>> adapter_of({"peft_type": "LORA", "use_dora": True, "init_lora_weights": True, "r": 32}, "lora/x-rank32-dora")
'dora'
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adapterlab.evidence.fit_carry import FITTED, fit_shipped
from adapterlab.evidence.table import Score, Table, write_table
from adapterlab.files import write_text

DATA = Path(__file__).parent.parent / "adapterlab" / "evidence" / "data"
SIZES = {"Qwen3-0.6B": 0.6e9, "Gemma-3-1B": 1.0e9, "Llama-2-7B": 6.7e9}
LR_MATTERS = {"LoRA": "lora", "DoRA": "dora", "PiSSA": "pissa", "MiLoRA": "milora", "Init[AB]": "init_ab"}
MAIN = {
    "lora/llama-3.2-3B-rank32": "lora",
    "lora/llama-3.2-3B-rank32-dora": "dora",
    "full-finetuning/llama-3.2-3B-lr_0.00001": "full_ft",
    "ia3/llama-3.2-3B-default": "ia3",
    "ia3/llama-3.2-3B-lr_0.001": "ia3",
    "shira/llama-3.2-3B-lr_0.0003-random_seed_42": "shira",
    "hira/llama-3.2-3B-rank32-lr4.5e-3": "hira",
    "miss/llama-3.2-3B-default": "miss",
    "miss/llama-3.2-3B-bat": "bone",
    "psoft/llama-3.2-3B-default": "psoft",
    "frod/llama-3.2-3B-default": "frod",
    "gralora/llama-3.2-3B-rank32": "gralora",
    "lokr/llama-3.2-3B-rank32-factor4-lr0.003": "lokr",
    "prefixtuning/llama-3.2-3B-lr_0.001": "prefix",
    "prompt_tuning/llama-3.2-3B-default": "prompt",
    "prompt_tuning/llama-3.2-3B-lr_0.001": "prompt",
    "trainable_tokens/llama-3.2-3B-sos+eos": "trainable_tokens",
    "road/llama-3.2-3B-lr_0.001": "road",
    "fourierft/llama-3.2-3B-default": "fourierft",
    "adaptionprompt/llama-3.2-3B-lr_0.0005": "llama_adapter",
    "adaptionprompt/llama-3.2-3B-lr_5e-3": "llama_adapter",
}
"""Main row or rows of the methods with several rows in the library's benchmark; several rates are a sweep."""
SIMPLE = {"adalora", "boft", "c3a", "delora", "ln_tuning", "loha", "oft", "randlora", "vblora", "vera"}
"""Methods with one row there."""


def adapter_of(peft: Mapping[str, Any], experiment: str) -> str:
    """Return the name of a run's method: an adapter's, or another one for a variant."""
    family, _, rest = experiment.partition("/")
    if experiment in MAIN:
        return MAIN[experiment]
    if peft.get("use_dora"):
        return "dora"
    return family if family in SIMPLE else f"{family} {rest.removeprefix('llama-3.2-3B-')}"


def lr_matters(sources: Path) -> Iterator[Score]:
    """Yield the cells of tables 5 to 13 of arXiv 2602.04998 v2."""
    for row in csv.DictReader((sources / "lr-matters.csv").read_text("utf-8").splitlines()):
        sd = float(row["accuracy_sd"]) if row["accuracy_sd"] else None
        yield Score(
            source="lr-matters",
            model=row["model"],
            parameters=SIZES[row["model"]],
            task=row["task"],
            setting=f"rank {row['rank']}, batch {row['batch']}",
            method=LR_MATTERS[row["method"]],
            learning_rate=float(row["learning_rate"]),
            value=float(row["accuracy_mean"]),
            sd=sd,
            seeds=1 if sd is None else 3,
            noise=0.75,
            examples=1e5,
        )


def tinker(sources: Path) -> Iterator[Score]:
    """Yield the runs of LoRA at several ranks and rates."""
    for row in csv.DictReader((sources / "tinker-lora-sweep.csv").read_text("utf-8").splitlines()):
        yield Score(
            source="tinker-lora-sweep",
            model=row["model"],
            parameters=1e9 * _billions(row["model"]),
            task="tulu3",
            method=f"lora(rank={row['lora_rank']})",
            learning_rate=float(row["learning_rate"]),
            value=float(row["test_nll_per_token"]),
            unit="nats per token",
            better="lower",
            smallest=0.005,
            noise=0.002,
        )


def _billions(model: str) -> float:
    known = {"Kimi": 1000.0, "DeepSeek-V3.1": 671.0}
    found = re.search(r"(\d+(?:\.\d+)?)[Bb]\b", model)
    return next((size for name, size in known.items() if name in model), 0.0) or float(found[1] if found else 0)


def peft_metamathqa(sources: Path) -> Iterator[Score]:
    """Yield test accuracy and forgetting of the library's runs."""
    for line in (sources / "peft-metamathqa.jsonl").read_text("utf-8").splitlines():
        run = json.loads(line)
        shared = {
            "source": "peft-metamathqa",
            "model": "Llama-3.2-3B",
            "parameters": 3.2e9,
            "task": "metamathqa",
            "method": adapter_of(run["peft"], run["experiment"]),
            "learning_rate": run["lr"],
            "examples": float(run["max_steps"] * run["batch_size"]),
            "trained": float(run["trainable_params"]),
        }
        yield Score(**shared, value=round(100 * run["final"]["test accuracy"], 3), noise=1.1)
        yield Score(
            **shared,
            metric="forgetting",
            value=round(run["final"]["forgetting"], 5),
            unit="nats per token",
            better="lower",
            smallest=0.01,
            noise=0.005,
        )


def peft_arena(sources: Path) -> Iterator[Score]:
    """Yield target scores, and the loss of general ability, of an independent benchmark."""
    lines = [line for line in (sources / "peft-arena.csv").read_text("utf-8").splitlines() if not line.startswith("#")]
    rows = list(csv.DictReader(lines))
    base = next(row for row in rows if row["method"] == "base")
    for row in rows:
        for model, parameters in (("qwen2.5-7b", 7.6e9), ("llama3.2-3b", 3.2e9)):
            for domain in ("math", "med"):
                cell = {
                    "source": "peft-arena",
                    "model": model,
                    "parameters": parameters,
                    "task": domain,
                    "setting": row["train"],
                    "method": {"base": "frozen"}.get(row["method"], row["method"]),
                    "tuned": False,
                    "noise": 1.5,
                }
                if row["method"] == "base":
                    for setting in ("SFT", "RLVR"):
                        yield Score(**{**cell, "setting": setting}, value=float(row[f"{model} {domain} target"]))
                    continue
                yield Score(**cell, value=float(row[f"{model} {domain} target"]))
                lost = float(base[f"{model} {domain} general"]) - float(row[f"{model} {domain} general"])
                yield Score(**cell, metric="forgetting", better="lower", value=round(lost, 2))


AUDIT = {
    "title": "Papers that propose a variant of LoRA: did they tune learning rate, batch and rank of LoRA?",
    "date": "2026",
    "licence": "facts of a public list kept by the authors of arXiv 2602.04998",
    "link": "https://arxiv.org/abs/2602.04998",
    "flaws": "borderline cases are the authors' decision",
}
TABLES = {
    "lr-matters": (
        lr_matters,
        {
            "title": "Learning rate swept for five methods, three models, mathematics and code",
            "date": "2026-02",
            "licence": "facts of arXiv 2602.04998 v2, tables 5 to 13",
            "link": "https://arxiv.org/abs/2602.04998",
            "flaws": "chosen and reported on the same runs; three seeds for the two small models, one for the 7 B model; "
            "the number of examples is about that of its methods' papers",
        },
    ),
    "tinker-lora-sweep": (
        tinker,
        {
            "title": "LoRA alone: rank and rate on 35 models from 1 B to 1000 B parameters",
            "date": "2026",
            "licence": "Apache-2.0 (Tinker cookbook)",
            "link": "https://github.com/thinking-machines-lab/tinker-cookbook",
            "flaws": "one data set, one run each, diverged runs left out",
        },
    ),
    "peft-metamathqa": (
        peft_metamathqa,
        {
            "title": "The PEFT library's own benchmark: MetaMathQA, tested on GSM8K",
            "date": "2026-07",
            "licence": "Apache-2.0 (PEFT)",
            "link": "https://github.com/huggingface/peft/tree/main/method_comparison",
            "flaws": "one seed, mostly one rate for all methods, unequal budgets",
        },
    ),
    "peft-arena": (
        peft_arena,
        {
            "title": "PEFT-Arena: learning and general ability of seven methods",
            "date": "2026-05",
            "licence": "facts of arXiv 2605.28819, main table",
            "link": "https://arxiv.org/abs/2605.28819",
            "flaws": "one setting and one rate for each method, no seeds, representative rows only",
        },
    ),
}


def write_audit(sources: Path, target: Path) -> None:
    """Write the list of papers with what each of them tuned.

    Args:
        sources: Folder with the sources' data.
        target: The file.
    """
    columns = ["method", "first", "tuned_learning_rate", "tuned_batch", "tuned_rank", "link"]
    rows = csv.DictReader((sources / "lora-papers-audit.csv").read_text("utf-8").splitlines())
    lines = [f"# {key}: {value}" for key, value in AUDIT.items()] + [",".join(columns)]
    lines += [",".join(row[name] for name in columns) for row in rows]
    write_text(target, "\n".join(lines) + "\n")


def write_fit(target: Path) -> None:
    """Write the lengths that are fitted to the tables.

    Args:
        target: Folder of the tables.
    """
    found = fit_shipped()
    numbers = {"size": round(found.carry.size, 4), "examples": round(found.carry.examples, 4)}
    write_text(target / FITTED.name, json.dumps(numbers) + "\n")


def write_all(sources: Path, target: Path = DATA) -> None:
    """Write all tables, and the list of papers with what they tuned.

    Args:
        sources: Folder with the sources' data.
        target: Folder of the tables.
    """
    for name, (rows, about) in TABLES.items():
        write_text(target / f"{name}.csv", write_table(Table(name, tuple(rows(sources)), about)))
    write_fit(target)
    write_audit(sources, target / "audit" / "lora-papers.csv")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("sources", type=Path)
    write_all(parser.parse_args().sources)
