"""Score simple contestants on every task: the frozen model, bigrams and full fine-tuning.

    python benchmarks/tasks.py [TASK ...] [--model embedded] [--steps 100]

Writes `benchmarks/results/tasks/TASK.json` for each task (`.../tasks/smollm2/TASK.json` with `--model smollm2`), and
`docs/tasks.md` from all of these files.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import FROZEN, Trial
from adapterlab.lab.trial.worker_config import WorkerConfig
from adapterlab.models.fingerprint import EMBEDDED, fingerprint
from adapterlab.models.loading import load_causal
from adapterlab.tasks import all_tasks, task
from adapterlab.tasks.base import Part, Task
from adapterlab.tasks.bigram import PRIOR, bigram_scores

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/tasks"
PAGE = ROOT / "docs/tasks.md"
SMOLLM2 = "smollm2"
RATES = {EMBEDDED: (1e-3, 3e-3), SMOLLM2: (3e-5, 1e-4)}
"""Learning rates of full fine-tuning; the better one on the validation part after a fifth of the steps is used."""
BATCH, LENGTH, WINDOWS = 8, 128, 128
"""Examples per step, largest number of tokens in an example, and largest number of examples scored per part."""
SHOWN = (Part.TEST, Part.OOD, Part.BASE)
LICENCES = {
    "arithmetic": "Generated here; this package's licence.",
    "persona": "Generated here; this package's licence.",
    "algorithm": "Generated here; this package's licence.",
    "dictionary": "WordNet (the WordNet licence of Princeton University: free to use and copy), from Debian's package "
    "`wordnet-base`.",
    "docstrings": "Read from installed packages: numpy, scipy, pandas, torch, statsmodels, Jinja (BSD, 3 clauses) and "
    "transformers (Apache 2.0).",
}
"""Sources of the tasks' texts and their licences; the standard library's for the other tasks."""
LIBRARY = "Read from the standard library of the running Python (PSF licence)."
CONTESTANTS = {"frozen": "frozen", "bigram": "bigrams", "full_ft": "full fine-tuning"}

OPENING = f"""# The tasks

Each task, and the scores of the simplest contestants on it with the embedded model and with SmolLM2-135M-Instruct
(`adapterlab models fetch smollm2`). The scores show that there is something to learn and that a contestant can fail.
`make tasks` writes this page. Every task is one file in [adapterlab/tasks](../adapterlab/tasks).

Each table names the unit of its loss; lower is better. `test` is the domain of training, `ood` the same skill in another
domain, and `base` the domain of the base model, where a rise of the loss is forgetting. The embedded model was not trained
on any part that is scored. `base` is text of the standard library; of a chat model, 32 of its examples are the model's
own answers to questions, generated greedily before anything is trained.

- *frozen*: the model without training.
- *bigrams*: frequencies of token pairs in the training part. `p(b | a) = (n(a, b) + {PRIOR:g} p(b)) / (n(a) + {PRIOR:g})`,
  `p(b) = (n(b) + 1) / (n + V)`, with `n` the counts over scored tokens and `V` the size of the vocabulary.
- *full fine-tuning*: all weights, one seed, {BATCH} examples of at most {LENGTH} tokens per step, AdamW at the better
  learning rate of {" and ".join(f"{rate:g}" for rate in RATES[EMBEDDED])} (of SmolLM2
  {" and ".join(f"{rate:g}" for rate in RATES[SMOLLM2])}), by the validation loss after a fifth of the steps.

Each part is scored on at most {WINDOWS} examples. Most tasks are made from the standard library of the running Python, and
`docstrings` from installed packages, so other versions give other numbers; these are from Python PYTHON.
"""
CLOSING = """## A task of your own

Your own text in JSONL or CSV needs no code: `adapterlab tune --train FILE`. For any other task, write a class in a Python
file and list the file in the study: `task_files = ["mine.py"]`, and give `adapterlab run` the option `--trust` the first
time. Subclass `CompletionTask` (prompts and their completions) or `WindowTask` (running text), and return the texts of each
part:

```python
from adapterlab.tasks.base import Part
from adapterlab.tasks.text import Completion, CompletionTask


class Shout(CompletionTask):
    name = "shout"
    title = "Shouting"
    explanation = "A word in upper case. Out of domain: two words."

    def completions(self, part: Part) -> list[Completion]:
        words = {
            Part.TRAIN: ["cat", "dog", "tree"],
            Part.VALIDATION: ["bird"],
            Part.TEST: ["stone"],
            Part.OOD: ["old cat"],
        }
        return [Completion(f"shout: {word} ->", f" {word.upper()}") for word in words[part]]

    def fingerprint(self) -> str:
        return "shout, first edition"
```

With `packed = True`, several short examples share a row of a training batch. A task whose loss is not that of a language
model overrides more methods of `Task` ([base.py](../adapterlab/tasks/base.py)); `steer` is an example.
"""


def trial(model: str, name: str, adapter: str, lr: float, steps: int, parts: tuple[Part, ...]) -> Trial:
    """Return a trial.

    Args:
        model: Name of the model.
        name: Name of the task.
        adapter: Name of the method.
        lr: Learning rate.
        steps: Training steps.
        parts: Parts to score.
    """
    return Trial(
        model=model,
        model_hash=fingerprint(model),
        task=name,
        data="",
        adapter=json.dumps({"name": adapter}),
        targets="all-linear",
        lr=lr,
        seed=1,
        steps=steps,
        batch=BATCH,
        length=LENGTH,
        parts=tuple(parts),
        windows=WINDOWS,
        curve_every=0,
        code="",
    )


def measure(runner: Runner, model: str, name: str, steps: int) -> dict[str, Any]:
    """Return the scores of the three contestants on one task.

    Args:
        runner: Runs the trials.
        model: Name of the model.
        name: Name of the task.
        steps: Training steps of full fine-tuning.
    """
    parts = task(name).parts
    start = trial(model, name, FROZEN, 1.0, 0, parts)
    frozen = runner.run(start).scores
    bigram = bigram_scores(task(name), runner.context(start).processor, LENGTH, WINDOWS)
    tried = {
        rate: runner.run(trial(model, name, "full_ft", rate, steps // 5, (Part.VALIDATION,))).validation
        for rate in RATES[model]
    }
    lr = min(tried, key=lambda rate: tried[rate])
    trained = runner.run(trial(model, name, "full_ft", lr, steps, parts)).scores
    return {
        "python": platform.python_version(),
        "steps": steps,
        "lr": lr,
        "scores": {"frozen": frozen, "bigram": {str(part): tuple(s) for part, s in bigram.items()}, "full_ft": trained},
    }


def page() -> str:
    """Return the text of the documentation page, from the recorded scores."""
    recorded = {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}
    pythons = sorted({figures["python"] for figures in recorded.values()})
    sections = [section(task(name), figures) for name, figures in recorded.items()]
    return "\n".join([OPENING.replace("PYTHON", " and ".join(pythons)), *sections, CLOSING])


def section(described: Task, figures: dict[str, Any]) -> str:
    """Return the section of one task: its explanation, an example and its table.

    Args:
        described: The task.
        figures: The recorded scores of the task.
    """
    other = RESULTS / SMOLLM2 / f"{described.name}.json"
    return "\n".join(
        [
            f"## `{described.name}`: {described.title}",
            "",
            described.explanation,
            "",
            LICENCES.get(described.name, LIBRARY),
            "",
            *example(described),
            "",
            *table(described, "The embedded model", figures),
            *(table(described, "SmolLM2", json.loads(other.read_text())) if other.exists() else []),
        ]
    )


def table(described: Task, model: str, figures: dict[str, Any]) -> list[str]:
    """Return the lines of a table of scores.

    Args:
        described: The task.
        model: The model in words.
        figures: The recorded scores of the task with this model.
    """
    rows = []
    for contestant, label in CONTESTANTS.items():
        scores = figures["scores"][contestant]
        cells = [f"{scores[part][0]:.3f} ({scores[part][1]:.0%})" for part in SHOWN]
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return [
        f"{model}, loss in {described.unit} (accuracy); {figures['steps']} steps at {figures['lr']:g}:",
        "",
        f"| | {' | '.join(SHOWN)} |",
        f"|---|{'--:|' * len(SHOWN)}",
        *rows,
        "",
    ]


def example(described: Task) -> list[str]:
    """Return the lines that show the first example of the test part and its scored text.

    Args:
        described: The task.
    """
    tokenizer = load_causal().tokenizer
    inputs = described.examples(Part.TEST, tokenizer, LENGTH, 1).inputs
    lines: list[str] = []
    for prefix in ("", "chosen_", "rejected_"):
        if f"{prefix}input_ids" not in inputs:
            continue
        ids, scored = inputs[f"{prefix}input_ids"][0], inputs[f"{prefix}scored"][0]
        start = int(scored.nonzero()[0])
        prompt, text = (tokenizer.decode(t, skip_special_tokens=True) for t in (ids[:start], ids[scored]))
        if prefix != "rejected_" and start > 1:
            lines += ["```text", prompt, "```", ""]
        side = {
            "": "should continue with" if start > 1 else "",
            "chosen_": "with the trait",
            "rejected_": "without the trait",
        }[prefix]
        lines += [*([side, ""] if side else []), "```text", text[:400].rstrip("\n"), "```", ""]
    return lines[:-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=[], metavar="TASK", help="tasks to run (default: all)")
    parser.add_argument("--model", default=EMBEDDED, choices=RATES, help="the model")
    parser.add_argument("--device", default="cpu", help="device of the trials")
    parser.add_argument("--steps", type=int, default=100, help="training steps of full fine-tuning")
    parser.add_argument("--page-only", action="store_true", help="only write the page, from the recorded scores")
    options = parser.parse_args()
    folder = RESULTS if options.model == EMBEDDED else RESULTS / options.model
    folder.mkdir(parents=True, exist_ok=True)
    if not options.page_only:
        runner = Runner(WorkerConfig(device=options.device))
        for name in options.tasks or all_tasks():
            figures = measure(runner, options.model, name, options.steps)
            (folder / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
            print(name, figures["scores"], flush=True)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
