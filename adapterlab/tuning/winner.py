"""The winner of a tuning study, saved in this package's format, and in PEFT's or merged into the model.

>>> Winner("lora", peft=True, merged=False, why="").contestant
'lora'
"""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from adapterlab.adapters.peft_layout import CannotExportError
from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.executors import crews
from adapterlab.lab.trial.context import TrialContext
from adapterlab.lab.trial.runner import Runner
from adapterlab.lab.trial.spec import Trial
from adapterlab.models.fingerprint import place_of
from adapterlab.models.loading import class_of
from adapterlab.surgery import Handle, load
from adapterlab.surgery.export.peft_export import save_peft
from adapterlab.tasks.base import Task

WINNER = "winner"
"""Name of the winner's folder in a folder of results."""
ADAPTERS = "adapters"
"""Name of the folder with the trained adapters of all contestants, each by the id of its trial."""
CARD = "winner.json"
"""File that records which trial the saved winner comes from."""
SAVED = ("adapterlab", "peft", "merged")
"""Names of the folders that a winner is saved in."""
_PEFT_TYPES = {
    "AutoModelForCausalLM": "CAUSAL_LM",
    "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM",
    "AutoModelForSequenceClassification": "SEQ_CLS",
}
"""By class of transformers, PEFT's name of the task; it has none for images."""


@dataclass(frozen=True)
class Winner:
    """A trained adapter on disk."""

    contestant: str
    peft: bool
    """True if there is a folder that PEFT loads."""
    merged: bool
    """True if there is a model with the adapter merged into its weights."""
    why: str
    """Reason why there is no PEFT folder; empty if there is one."""


def keep_winner(contest: Contest, folder: Path, adapters: Path) -> Winner:
    """Save the adapter of the contest's first reported run, which is trained again if it was not kept.

    Args:
        contest: The winner's contest, finished.
        folder: Where to save; nothing is done if it has the winner of the same trial. That of another trial is kept beside
            it, as `winner-1`.
        adapters: Folder of the adapters that the study kept.

    Returns:
        The saved winner.

    Raises:
        AdapterlabError: If training diverges or fails this time.
    """
    trial, _ = contest.reported[min(contest.reported)]
    card = folder / CARD
    if card.exists():
        known = json.loads(card.read_text())
        if known.pop("trial") == trial.id:
            return Winner(**known)
        folder.rename(_free_name(folder))
    elif folder.exists():  # its saving was interrupted
        refuse_foreign(folder)
        shutil.rmtree(folder)
    runner = Runner(crews(contest.study.limits, contest.resolved.worker_config())[0][0])
    winners: list[Winner] = []
    if (kept := adapters / trial.id).is_dir():
        context = runner.context(trial)
        winners.append(_save(load(context.model, kept), context, contest, folder))
        return _recorded(trial, winners[0], card)
    rerun = replace(trial, parts=(), path=(), curve_every=0, rows=False, metric="")
    outcome = runner.run(rerun, lambda handle: winners.append(_save(handle, runner.context(rerun), contest, folder)))
    runner.clear()
    if outcome.status != "ok" or not winners:
        raise AdapterlabError(
            f"{contest.contestant} {outcome.status} when it was trained again to be saved ({outcome.note}), although it "
            "succeeded in the study: run the same command again"
        )
    return _recorded(trial, winners[0], card)


def _recorded(trial: Trial, winner: Winner, card: Path) -> Winner:
    card.write_text(json.dumps({"trial": trial.id, **vars(winner)}, indent=1) + "\n")
    return winner


def refuse_foreign(folder: Path) -> None:
    """Raise an error if a folder exists that no earlier tuning has written.

    Args:
        folder: The folder that the winner will be saved to.

    Raises:
        AdapterlabError: It is not a winner's.
    """
    if folder.is_symlink() or (folder.exists() and not (folder / CARD).is_file() and _content(folder)):
        raise AdapterlabError(f"{folder} exists already and is not the winner of a tuning: give another --out")


def _content(folder: Path) -> bool:
    """Return True if a folder has files that are not those of a winner whose saving was interrupted."""
    return not folder.is_dir() or any(path.name not in SAVED for path in folder.iterdir())


def _free_name(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}-{i}") for i in itertools.count(1))
    return next(path for path in names if not path.exists())


def _save(handle: Handle, context: TrialContext, contest: Contest, folder: Path) -> Winner:
    task = context.task
    handle.save(folder / "adapterlab")
    base, revision = place_of(contest.study.model)
    try:
        save_peft(handle, folder / "peft", base, _PEFT_TYPES.get(class_of(base, task.head, revision)))
    except CannotExportError as error:
        why = str(error)
    else:
        return Winner(contest.contestant, True, False, "")
    if not handle.adapter.mergeable:
        return Winner(contest.contestant, False, False, why)
    handle.save_merged(folder / "merged", context.processor)
    return Winner(contest.contestant, False, True, why)


def how_to_load(winner: Winner, model: str, task: Task, folder: Path) -> str:
    """Return Python code that loads the winner.

    Args:
        winner: The saved winner.
        model: The base model: a folder or a hub id.
        task: The task, for the kind of head.
        folder: Where the winner is saved.
    """
    source, revision = place_of(model)
    name = class_of(source, task.head, revision)
    if winner.merged:
        return f'from transformers import {name}\nmodel = {name}.from_pretrained("{folder / "merged"}")'
    settings = ""
    if task.head.labels:
        settings = f", num_labels={len(task.head.labels)}"
        if task.head.kind == "sequence":
            from transformers import AutoConfig, AutoTokenizer

            if AutoConfig.from_pretrained(source, trust_remote_code=False).get_text_config().pad_token_id is None:
                from adapterlab.models.loading import padding

                settings += f", pad_token_id={padding(AutoTokenizer.from_pretrained(source, trust_remote_code=False))}"
    base = f'{name}.from_pretrained("{source}"{settings})'
    if winner.peft:
        return (
            f"from peft import PeftModel\nfrom transformers import {name}\n"
            f'model = PeftModel.from_pretrained({base}, "{folder / "peft"}")'
        )
    return (
        f"import adapterlab\nfrom transformers import {name}\nmodel = {base}\n"
        f'adapterlab.load(model, "{folder / "adapterlab"}")'
    )
