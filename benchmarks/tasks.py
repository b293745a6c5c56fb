"""What every task asks of the embedded model: the scores of the frozen model, of bigrams, of full fine-tuning.

    python benchmarks/tasks.py [TASK ...] [--steps 100]

Writes `benchmarks/results/tasks/TASK.json` for each task and, from all of these, `docs/tasks.md`.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

from adapterlab.lab.trial.spec import FROZEN, Trial
from adapterlab.lab.trial.train import run
from adapterlab.models.loading import EMBEDDED, load_causal
from adapterlab.tasks import all_tasks, task
from adapterlab.tasks.base import Part, Task
from adapterlab.tasks.bigram import PRIOR, bigram_scores

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results/tasks"
PAGE = ROOT / "docs/tasks.md"
RATES = (1e-3, 3e-3)
"""Learning rates of full fine-tuning, of which a fifth of the steps picks one on the validation part."""
BATCH, LENGTH, WINDOWS = 8, 128, 128
SHOWN = (Part.TEST, Part.OOD, Part.BASE)
CONTESTANTS = {"frozen": "frozen", "bigram": "bigrams", "full_ft": "full fine-tuning"}

OPENING = f"""# The tasks

What is learned, on the embedded model, and what the simplest contestants score: whether there is something to learn, and
room to fail. `make tasks` makes this page anew. Every task is one file in [adapterlab/tasks](../adapterlab/tasks).

The loss is in the unit that stands with each task; lower is better. `test` is the domain of training, `ood` the same skill
asked of another domain, `base` what the model knew before (its rise is forgetting). The base is never trained on a part
that is scored.

- *frozen*: the embedded model as it is.
- *bigrams*: which token follows which in the training part. `p(b | a) = (n(a, b) + {PRIOR:g} p(b)) / (n(a) + {PRIOR:g})`,
  `p(b) = (n(b) + 1) / (n + V)`, `n` counts over scored tokens, `V` the tokens of the vocabulary.
- *full fine-tuning*: all weights, one seed, {BATCH} examples of at most {LENGTH} tokens a step, AdamW at the better of
  {" and ".join(f"{rate:g}" for rate in RATES)} (by the validation part, after a fifth of the steps).

Each part is scored on at most {WINDOWS} examples. The tasks are cut from the library of the Python that runs them, so
another version gives other figures; these are from Python PYTHON.
"""
CLOSING = """## A task of your own

Your own text in JSONL or CSV needs no code: `adapterlab tune --train FILE`. For anything else write a class in a Python file
that a study names in `task_files = ["mine.py"]`: subclass `CompletionTask` (prompts and what should come after them) or
`WindowTask` (running text), and say what the parts hold.

```python
from adapterlab.tasks.base import Part
from adapterlab.tasks.text import Completion, CompletionTask


class Shout(CompletionTask):
    name = "shout"
    title = "Shouting"
    explanation = "A word in upper case. Out of domain: two words."

    def completions(self, part: Part) -> list[Completion]:
        words = {Part.TRAIN: ["cat", "dog", "tree"], Part.VALIDATION: ["bird"], Part.TEST: ["stone"], Part.OOD: ["old cat"]}
        return [Completion(f"shout: {word} ->", f" {word.upper()}") for word in words[part]]

    def fingerprint(self) -> str:
        return "shout, first edition"
```

`packed = True` puts several short examples into a row of training. What is no loss on text overrides more of `Task`
([base.py](../adapterlab/tasks/base.py)); `steer` is an example.
"""


def trial(name: str, adapter: str, lr: float, steps: int, parts: tuple[Part, ...]) -> Trial:
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
    """The scores of the three on one task."""
    parts = task(name).parts
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
    """The documentation, from the recorded figures."""
    recorded = {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}
    pythons = sorted({figures["python"] for figures in recorded.values()})
    sections = [section(task(name), figures) for name, figures in recorded.items()]
    return "\n".join([OPENING.replace("PYTHON", " and ".join(pythons)), *sections, CLOSING])


def section(the_task: Task, figures: dict[str, Any]) -> str:
    """One task: what it stands for, an example, its table."""
    rows = []
    for contestant, label in CONTESTANTS.items():
        scores = figures["scores"][contestant]
        cells = [f"{scores[part][0]:.3f} ({scores[part][1]:.0%})" for part in SHOWN]
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(
        [
            f"## `{the_task.name}`: {the_task.title}",
            "",
            the_task.explanation,
            "",
            *example(the_task),
            "",
            f"Loss in {the_task.unit} (accuracy); {figures['steps']} steps at {figures['lr']:g}:",
            "",
            f"| | {' | '.join(SHOWN)} |",
            f"|---|{'--:|' * len(SHOWN)}",
            *rows,
            "",
        ]
    )


def example(the_task: Task) -> list[str]:
    """The first example of the test part, and what is scored of it."""
    tokenizer = load_causal().tokenizer
    inputs = the_task.examples(Part.TEST, tokenizer, LENGTH, 1).inputs
    lines: list[str] = []
    for prefix in ("", "chosen_", "rejected_"):
        if f"{prefix}input_ids" not in inputs:
            continue
        ids, scored = inputs[f"{prefix}input_ids"][0], inputs[f"{prefix}scored"][0]
        start = int(scored.nonzero()[0])
        prompt, text = (tokenizer.decode(t, skip_special_tokens=True) for t in (ids[:start], ids[scored]))
        if prefix != "rejected_" and start > 1:
            lines += ["```text", prompt, "```", ""]
        side = {"": "is to go on with" if start > 1 else "", "chosen_": "with the trait", "rejected_": "without"}[
            prefix
        ]
        lines += [*([side, ""] if side else []), "```text", text[:400].rstrip("\n"), "```", ""]
    return lines[:-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=[], metavar="TASK", help="all if none is named")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--page-only", action="store_true", help="only write the page anew")
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
