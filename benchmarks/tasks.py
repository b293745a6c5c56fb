"""Score simple contestants on every task: the frozen model, bigrams and full fine-tuning.

    python benchmarks/tasks.py [TASK ...] [--steps 100]

Writes `benchmarks/results/tasks/TASK.json` for each task, and `docs/tasks.md` from all of these files.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import FROZEN, Trial
from adapterlab.models.fingerprint import EMBEDDED
from adapterlab.models.loading import load_causal
from adapterlab.tasks import all_tasks, task
from adapterlab.tasks.base import Part, Task
from adapterlab.tasks.bigram import PRIOR, bigram_scores

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/tasks"
PAGE = ROOT / "docs/tasks.md"
RATES = (1e-3, 3e-3)
"""Learning rates of full fine-tuning; the better one on the validation part after a fifth of the steps is used."""
BATCH, LENGTH, WINDOWS = 8, 128, 128
"""Examples per step, largest number of tokens in an example, and largest number of examples scored per part."""
SHOWN = (Part.TEST, Part.OOD, Part.BASE)
CONTESTANTS = {"frozen": "frozen", "bigram": "bigrams", "full_ft": "full fine-tuning"}

OPENING = f"""# The tasks

Each task, and the scores of the simplest contestants on it with the embedded model. The scores show that there is
something to learn and that a contestant can fail. `make tasks` writes this page. Every task is one file in
[adapterlab/tasks](../adapterlab/tasks).

Each table names the unit of its loss; lower is better. `test` is the domain of training, `ood` the same skill in another
domain, and `base` the domain of the base model, where a rise of the loss is forgetting. The base model was not trained on
any part that is scored.

- *frozen*: the embedded model without training.
- *bigrams*: frequencies of token pairs in the training part. `p(b | a) = (n(a, b) + {PRIOR:g} p(b)) / (n(a) + {PRIOR:g})`,
  `p(b) = (n(b) + 1) / (n + V)`, with `n` the counts over scored tokens and `V` the size of the vocabulary.
- *full fine-tuning*: all weights, one seed, {BATCH} examples of at most {LENGTH} tokens per step, AdamW at the better
  learning rate of {" and ".join(f"{rate:g}" for rate in RATES)} (by the validation loss after a fifth of the steps).

Each part is scored on at most {WINDOWS} examples. The tasks are made from the standard library of the running Python, so
another version gives other numbers; these are from Python PYTHON.
"""
CLOSING = """## A task of your own

Your own text in JSONL or CSV needs no code: `adapterlab tune --train FILE`. For any other task, write a class in a Python
file and list the file in the study: `task_files = ["mine.py"]`. Subclass `CompletionTask` (prompts and their completions)
or `WindowTask` (running text), and return the texts of each part:

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


def trial(name: str, adapter: str, lr: float, steps: int, parts: tuple[Part, ...]) -> Trial:
    """Return a trial on the embedded model.

    Args:
        name: Name of the task.
        adapter: Name of the method.
        lr: Learning rate.
        steps: Training steps.
        parts: Parts to score.
    """
    return Trial(
        model=EMBEDDED,
        model_hash="",
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


def measure(name: str, steps: int) -> dict[str, Any]:
    """Return the scores of the three contestants on one task.

    Args:
        name: Name of the task.
        steps: Training steps of full fine-tuning.
    """
    parts = task(name).parts
    run = Runner().run
    frozen = run(trial(name, FROZEN, 1.0, 0, parts)).scores
    bigram = bigram_scores(task(name), load_causal().tokenizer, LENGTH, WINDOWS)
    tried = {rate: run(trial(name, "full_ft", rate, steps // 5, (Part.VALIDATION,))).validation for rate in RATES}
    lr = min(tried, key=lambda rate: tried[rate])
    trained = run(trial(name, "full_ft", lr, steps, parts)).scores
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
    rows = []
    for contestant, label in CONTESTANTS.items():
        scores = figures["scores"][contestant]
        cells = [f"{scores[part][0]:.3f} ({scores[part][1]:.0%})" for part in SHOWN]
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(
        [
            f"## `{described.name}`: {described.title}",
            "",
            described.explanation,
            "",
            *example(described),
            "",
            f"Loss in {described.unit} (accuracy); {figures['steps']} steps at {figures['lr']:g}:",
            "",
            f"| | {' | '.join(SHOWN)} |",
            f"|---|{'--:|' * len(SHOWN)}",
            *rows,
            "",
        ]
    )


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
    parser.add_argument("--steps", type=int, default=100, help="training steps of full fine-tuning")
    parser.add_argument("--page-only", action="store_true", help="only write the page, from the recorded scores")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if not options.page_only:
        for name in options.tasks or all_tasks():
            figures = measure(name, options.steps)
            (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
            print(name, figures["scores"], flush=True)
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
