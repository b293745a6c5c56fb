"""The winner, trained once more and kept: in our format, and as PEFT's or merged."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.contest import Contest
from adapterlab.lab.run.executors import crews
from adapterlab.lab.run.scheduler import worker_config
from adapterlab.lab.trial import train
from adapterlab.models.loading import folder_of
from adapterlab.surgery import Handle
from adapterlab.surgery.io.peft_export import save_peft
from adapterlab.surgery.io.peft_layouts import CannotExportError
from adapterlab.surgery.model.submodules import in_adapter
from adapterlab.tasks import task
from adapterlab.tasks.base import Task

MADE = "winner.json"
_CLASSES = {
    "causal": ("AutoModelForCausalLM", "CAUSAL_LM"),
    "sequence": ("AutoModelForSequenceClassification", "SEQ_CLS"),
    "image": ("AutoModelForImageClassification", None),
}


@dataclass(frozen=True)
class Winner:
    """A trained adapter on disk."""

    contestant: str
    peft: bool
    """Whether there is a folder that PEFT loads; else there is a merged model, or neither."""
    merged: bool
    why: str
    """Why there is none for PEFT, if so."""


def keep_winner(contest: Contest, folder: Path) -> Winner:
    """Train the contest's first reported run once more, with all its steps, and save it to `folder` unless it is there.

    Raises `AdapterlabError` if it diverges or fails, which it did not in the contest.
    """
    trial, _ = contest.reported[min(contest.reported)]
    card = folder / MADE
    if card.exists():
        known = json.loads(card.read_text())
        if known.pop("trial") == trial.id:
            return Winner(**known)
    shutil.rmtree(folder, ignore_errors=True)
    setup = worker_config(contest.study)
    crews(contest.study.limits, setup)[0][0].enter()
    kept: list[Winner] = []
    again = train.run(replace(trial, path=()), lambda handle: kept.append(_save(handle, contest, folder)))
    train.forget()
    if again.status != "ok" or not kept:
        raise AdapterlabError(
            f"{contest.contestant} {again.status} when it was trained again ({again.note}), though it was ok in the contest"
        )
    card.write_text(json.dumps({"trial": trial.id, **vars(kept[0])}, indent=1) + "\n")
    return kept[0]


def _save(handle: Handle, contest: Contest, folder: Path) -> Winner:
    the_task = task(contest.task)
    handle.save(folder / "adapterlab")
    base = str(folder_of(contest.study.model)) if folder_of(contest.study.model).exists() else contest.study.model
    try:
        save_peft(handle, folder / "peft", base, _CLASSES[the_task.head.kind][1])
    except CannotExportError as error:
        why = str(error)
    else:
        return Winner(contest.contestant, True, False, "")
    if not handle.adapter.mergeable:
        return Winner(contest.contestant, False, False, why)
    handle.merge()
    try:
        plain = {name: tensor for name, tensor in handle.model.state_dict().items() if not in_adapter(name)}
        handle.model.save_pretrained(folder / "merged", state_dict=plain)  # type: ignore[operator]
    finally:
        handle.unmerge()
    trial = contest.reported[min(contest.reported)][0]
    train.loaded(trial.model, trial.dtype, the_task.head).tokenizer.save_pretrained(folder / "merged")
    return Winner(contest.contestant, False, True, why)


def how_to_load(winner: Winner, model: str, the_task: Task, folder: Path) -> str:
    """Python that loads the winner, ready to be run."""
    name = _CLASSES[the_task.head.kind][0]
    source = str(folder_of(model)) if folder_of(model).exists() else model
    if winner.merged:
        return f'from transformers import {name}\nmodel = {name}.from_pretrained("{folder / "merged"}")'
    settings = ""
    if the_task.head.labels:
        settings = f", num_labels={len(the_task.head.labels)}"
        if the_task.head.kind == "sequence":
            from transformers import AutoConfig, AutoTokenizer

            if AutoConfig.from_pretrained(source).get_text_config().pad_token_id is None:
                from adapterlab.models.loading import padding

                settings += f", pad_token_id={padding(AutoTokenizer.from_pretrained(source))}"
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
