"""Models with adapters as models of lm-eval (the language model evaluation harness), and its tasks as their metrics.

Needs the extra `lm-eval`. The model and its tokenizer are handed over as objects, so nothing is asked of a hub for them; the
harness loads the data of its tasks as it always does.

>>> evaluate("embedded", [])
Traceback (most recent call last):
adapterlab.errors.AdapterlabError: no task is named: give --tasks
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from adapterlab.errors import AdapterlabError
from adapterlab.files import write_text
from adapterlab.harness.targets import find_target
from adapterlab.lab.trial.merged import merged
from adapterlab.models.loading import load
from adapterlab.surgery import Handle, load_peft
from adapterlab.surgery import load as load_adapter
from adapterlab.surgery.adapter_files import CARD
from adapterlab.trust import require

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM

FEW_SHOT_SEED = 1234
"""Seed of the choice of the examples in a prompt, as in `lm_eval.simple_evaluate`."""


def lm_eval_model(model: nn.Module, tokenizer: Any, *, batch_size: int = 8, **settings: Any) -> HFLM:
    """Return a model, with whatever is attached to it, as a model of lm-eval.

    Args:
        model: A causal language model of transformers, with adapters or without.
        tokenizer: Its tokenizer.
        batch_size: Rows in a forward pass.
        **settings: Further arguments of `lm_eval.models.huggingface.HFLM`.

    Returns:
        The model, for `lm_eval.simple_evaluate(model=...)`.

    Raises:
        AdapterlabError: If lm-eval is not installed.
    """
    _require_harness()
    from lm_eval.models.huggingface import HFLM

    own: Any = model
    with _weights_left(own):
        return HFLM(pretrained=own, tokenizer=tokenizer, batch_size=batch_size, **settings)


def evaluate(
    folder: str,
    tasks: Sequence[str],
    *,
    model: str | None = None,
    contestant: str | None = None,
    include_path: str | Path | None = None,
    limit: int | None = None,
    shots: int | None = None,
    batch_size: int = 8,
    chat: bool = False,
    device: str | None = None,
    out: str | Path | None = None,
    trust: bool = False,
) -> dict[str, Any]:
    """Evaluate a model with its adapter on tasks of lm-eval.

    The adapter is merged while it is evaluated where that is exact.

    Args:
        folder: As for `find_target`.
        tasks: Names of the harness's tasks, groups or tags.
        model: Base model of a saved adapter.
        contestant: Contestant of a folder of results; the saved winner if None.
        include_path: Folder with further tasks, as YAML files.
        limit: Documents of each task, at most.
        shots: Examples in the prompt; those of each task if None.
        batch_size: Rows in a forward pass.
        chat: True to render the prompts with the tokenizer's chat template.
        device: Such as `cuda`; a GPU if there is one, if None.
        out: File for the results as JSON; none if None.
        trust: True to trust the Python files in `include_path`, from now on and as they are.

    Returns:
        The harness's results: `results`, `configs`, `versions`, `n-samples` and more.

    Raises:
        AdapterlabError: If lm-eval is not installed, a task is not known, or the model cannot be loaded.
        UntrustedCodeError: If `include_path` has Python files that are not trusted.
    """
    _require_harness()
    if include_path is not None:
        if not Path(include_path).is_dir():
            raise AdapterlabError(f"{include_path} is not a folder: give one with the harness's tasks as YAML files")
        require(sorted(Path(include_path).rglob("*.py")), f"--include-path {include_path}", trust)
    loaded = _tasks(tasks, include_path, shots)
    target = find_target(folder, model, contestant)
    base, tokenizer = load(target.model)
    handle = None if target.adapter is None else _attached(base, target.adapter)
    base.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chat and not getattr(tokenizer, "chat_template", None):
        raise AdapterlabError(f"the tokenizer of {target.model} has no chat template: leave --chat out")
    from lm_eval import evaluator
    from lm_eval.utils import handle_non_serializable

    with _merged(handle), torch.no_grad():
        found: dict[str, Any] = evaluator.evaluate(
            lm_eval_model(base, tokenizer, batch_size=batch_size),
            loaded,
            limit=limit,
            apply_chat_template=chat,
            log_samples=False,
            bootstrap_iters=1000,
        )
    found["config"] = {
        "model": target.name,
        "limit": limit,
        "num_fewshot": shots,
        "batch_size": batch_size,
        "chat": chat,
    }
    if out is not None:
        write_text(Path(out), json.dumps(found, indent=1, default=handle_non_serializable) + "\n")
    return found


def as_table(results: dict[str, Any]) -> str:
    """Return the harness's own table of its results.

    Args:
        results: What `evaluate` returned.
    """
    from lm_eval.utils import make_table

    groups = f"\n{make_table(results, 'groups')}" if results.get("groups") else ""
    return f"{make_table(results)}{groups}"


def _attached(model: nn.Module, folder: Path) -> Handle:
    return load_adapter(model, folder) if (folder / CARD).is_file() else load_peft(model, folder)


@contextmanager
def _merged(handle: Handle | None) -> Iterator[None]:
    if handle is None:
        yield
        return
    with merged(handle):
        yield


@contextmanager
def _weights_left(model: Any) -> Iterator[None]:
    """Keep the harness from tying weights again, which an adapter may have untied."""
    model.tie_weights = lambda *_, **__: None
    try:
        yield
    finally:
        del model.tie_weights


def _tasks(names: Sequence[str], include_path: str | Path | None, shots: int | None) -> Any:
    from lm_eval.tasks import TaskManager

    if not names:
        raise AdapterlabError("no task is named: give --tasks")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    own = TaskManager(include_path=include_path, include_defaults=False) if include_path is not None else None
    # Reading the harness's own tasks takes seconds.
    manager = own if own is not None and set(names) <= set(own.all_tasks) else TaskManager(include_path=include_path)
    unknown = [name for name in names if name not in manager.all_tasks]
    if unknown:
        where = f" or in {include_path}" if include_path is not None else ": give --include-path for tasks of your own"
        raise AdapterlabError(f"lm-eval has no task {', '.join(unknown)}{where}; `lm-eval ls tasks` lists its own")
    try:
        loaded: Any = manager.load(list(names))
    except Exception as error:  # a task's file or its data raise errors of many types
        first = " ".join(str(error).split())[:300]
        raise AdapterlabError(
            f"the task {', '.join(names)} cannot be loaded ({type(error).__name__}: {first})"
        ) from error
    for task in loaded["tasks"].values():
        task.set_fewshot_seed(seed=FEW_SHOT_SEED)
        if shots is not None:
            task.set_config(key="num_fewshot", value=shots)
    return loaded


def _require_harness() -> None:
    try:
        import lm_eval.models.huggingface  # noqa: F401
    except ImportError as error:
        raise AdapterlabError(f"lm-eval is not installed ({error}): pip install 'adapterlab[lm-eval]'") from error
