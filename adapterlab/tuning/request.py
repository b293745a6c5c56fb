"""Options of `adapterlab tune`, checked before anything runs.

>>> duration("1.5h"), parameters("0.5%", of=1_000_000), parameters("20k", of=1_000_000)
(5400.0, 5000, 20000)
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path

from adapterlab.adapters import all_adapters, method
from adapterlab.adapters.baseline.full_ft import FullFT
from adapterlab.errors import AdapterlabError
from adapterlab.models.fingerprint import fingerprint
from adapterlab.tasks import all_tasks
from adapterlab.tasks.answer_metrics import MAX_NEW_TOKENS, beside, scorer_of
from adapterlab.tasks.files import FileData, forget_changed, parts_of
from adapterlab.tasks.scorer import check_scorer
from adapterlab.trust import require

SHORTLIST = ("lora", "dora", "pissa", "hra", "miss")
"""Adapters compared by default: additive (lora), with a magnitude (dora), started from singular vectors (pissa), orthogonal
(hra), with shared directions (miss). All can be sized to any budget and saved for PEFT."""
_SECONDS = {"": 60.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9}


@dataclass(frozen=True)
class Request:
    """A tuning request: the checked options."""

    model: str
    """Base model: a folder or a hub id."""
    data: FileData
    """The user's data files."""
    contestants: tuple[str, ...]
    """Names of the adapters to compare."""
    seconds: float
    """Time that the study may take."""
    budget: str | None
    """Trained parameters, as text for `parameters`; None for the size of a LoRA of rank 8."""
    seeds: int | None
    """Reported runs of each contestant; None to choose by the time."""
    batch: int
    """Examples in a training step."""
    length: int | None
    """Tokens in an example, at most; None to choose by the data."""
    chosen: bool
    """True if the user named the contestants."""
    ranks: tuple[int, ...] = ()
    """Ranks to compare, rising; empty to size the contestants to the budget."""
    targets: tuple[str, ...] = ()
    """Modules to compare, as `attach` takes them, those of one level joined by `+`; empty for all linear layers."""
    everyone: bool = False
    """True to compare all methods."""

    @property
    def racing(self) -> bool:
        """True to stop contestants once more seeds cannot change the answer."""
        return self.everyone and self.seeds is None

    @property
    def shortlisted(self) -> bool:
        """True if the contestants are a shortlist, whose last ones are left out if time is short."""
        return not self.chosen and not self.everyone

    def to_json(self) -> dict[str, object]:
        """Return plain data that is equal for equal requests on the same files and weights."""
        return dataclasses.asdict(self) | {"hashes": [fingerprint(self.model), parts_of(self.data).hash]}


def make_request(
    model: str,
    train: Path,
    *,
    evaluate: Path | None,
    ood: Path | None,
    keep: Path | None,
    contestants: str | None,
    time: str,
    budget: str | None,
    seeds: int | None,
    batch: int,
    length: int | None,
    ranks: str | None = None,
    targets: str | None = None,
    methods: str | None = None,
    metric: str | None = None,
    max_new_tokens: int | None = None,
    trust: bool = False,
) -> Request:
    """Check the options of the command.

    Args:
        model: A folder or a hub id.
        train: File or folder of the training rows.
        evaluate: File or folder of rows for validation and test; cut from `train` if None.
        ood: File or folder of rows of another domain.
        keep: File or folder of rows that must not be forgotten.
        contestants: Names of adapters, separated by commas; `SHORTLIST` if None.
        time: Time that the study may take, as `duration` reads it.
        budget: Trained parameters, as `parameters` reads them.
        seeds: Reported runs of each contestant.
        batch: Examples in a training step.
        length: Tokens in an example, at most.
        ranks: Ranks to compare, separated by commas.
        targets: Modules to compare, as `attach` takes them, separated by commas; those of one level are joined by `+`.
        methods: `all` to compare all methods that fit the model and the budget, in a race.
        metric: Metric of generated answers; none if None. The file of a scorer is found from the present folder.
        max_new_tokens: Tokens of a generated answer, at most.
        trust: True to trust the file of a scorer, from now on and as it is.

    Returns:
        The request, with absolute paths.

    Raises:
        AdapterlabError: If an option cannot be used as given.
        UnknownNameError: If there is no such adapter.
        UntrustedCodeError: If the metric is a scorer in a file that is not trusted.
    """
    eval_file, ood_file, keep_file = (None if p is None else str(p.resolve()) for p in (evaluate, ood, keep))
    names = _listed(contestants)
    for adapter in names:
        method(adapter, "--contestants")
    if names and set(names) <= {FullFT.name}:
        raise AdapterlabError("--contestants: full_ft always runs: name another adapter, such as lora")
    if methods is not None and (methods != "all" or names):
        raise AdapterlabError(
            f"--methods {methods!r} is not known: give all, or the names of adapters to --contestants"
            if methods != "all"
            else "--methods all and --contestants cannot be combined: give one of them"
        )
    if budget is not None:
        parameters(budget, 10**9)
    levels = _ranks(ranks)
    if levels and budget is not None:
        raise AdapterlabError("--ranks and --budget both set the size of the adapters: give one of them")
    where = _levels("--targets", targets)
    if max_new_tokens is not None and not metric:
        raise AdapterlabError(
            "--max-new-tokens needs a --metric, since no answers are generated without one: give both"
        )
    found = beside(metric or "", Path.cwd())
    scorer = scorer_of(found)
    check_scorer(scorer)
    require([] if scorer is None else [scorer.file], f"--metric {metric}", trust)
    data = FileData(
        task_name(train),
        str(train.resolve()),
        eval_file,
        ood_file,
        keep_file,
        metric=found,
        max_new_tokens=max_new_tokens or MAX_NEW_TOKENS,
    )
    forget_changed(data)
    return Request(
        model=model_name(model),
        data=data,
        contestants=_contestants(names, everyone=methods == "all", comparing_ranks=bool(levels)),
        seconds=duration(time),
        budget=budget,
        seeds=seeds,
        batch=batch,
        length=length,
        chosen=bool(names or levels),
        ranks=levels,
        targets=where,
        everyone=methods == "all",
    )


def _contestants(names: tuple[str, ...], *, everyone: bool, comparing_ranks: bool) -> tuple[str, ...]:
    """Return the names of the adapters to compare: the user's, or all, or a shortlist; LoRA alone if ranks are compared."""
    if everyone:
        shipped = [name for name, kind in all_adapters().items() if kind.__module__.startswith("adapterlab.")]
        return ("lora", *(name for name in shipped if name not in ("lora", FullFT.name)))
    chosen = tuple(name for name in names if name != FullFT.name)
    if comparing_ranks:
        fixed = [name for name in chosen if method(name).size_knob != "rank"]
        if fixed:
            raise AdapterlabError(f"--ranks: {', '.join(fixed)} has no rank: leave it out of --contestants")
    return chosen or (("lora",) if comparing_ranks else SHORTLIST)


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))


def _levels(option: str, text: str | None) -> tuple[str, ...]:
    """Return the levels of an option, two or more; none if it was not given."""
    levels = _listed(text)
    if text is not None and len(levels) < 2:
        raise AdapterlabError(f"{option} {text!r} names fewer than two levels: give them separated by commas")
    return levels


def _ranks(text: str | None) -> tuple[int, ...]:
    """Return the ranks to compare, rising."""
    levels = _levels("--ranks", text)
    if not all(level.isdecimal() and int(level) > 0 for level in levels):
        raise AdapterlabError(f"--ranks {text!r} are not ranks: give numbers like 4,16,64")
    return tuple(sorted({int(level) for level in levels}))


def task_name(train: Path) -> str:
    """Return the name of the task made of training rows, which no built-in task has.

    >>> task_name(Path("my rows.jsonl")), task_name(Path("prose.jsonl"))
    ('my-rows', 'prose-data')

    Args:
        train: File or folder of the rows.
    """
    stem = re.sub(r"\W+", "-", train.resolve().stem).strip("-") or "data"
    return f"{stem}-data" if stem in all_tasks() else stem


def model_name(model: str) -> str:
    """Return the absolute path of a model in a folder; another name is returned unchanged.

    Args:
        model: A folder, a hub id, or `embedded`.
    """
    return str(Path(model).resolve()) if Path(model).exists() else model


def duration(text: str) -> float:
    """Return a length of time in seconds.

    Args:
        text: A number with the unit `s`, `m`, `h` or `d`; minutes if there is no unit.

    Raises:
        AdapterlabError: If the text is not a positive length of time.
    """
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip().lower())
    if not parts or float(parts[1]) <= 0:
        raise AdapterlabError(f"--time {text!r} is not a length of time: give one like 90s, 30m or 2h")
    return float(parts[1]) * _SECONDS[parts[2]]


def parameters(text: str, of: int) -> int:
    """Return a number of parameters.

    Args:
        text: A share of the model, such as `0.5%`, or a number, such as `20000`, `20k` or `1.5M`.
        of: Number of parameters of the model.

    Raises:
        AdapterlabError: If the text is neither, or not from one parameter to 100 % of the model.
    """
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)([kmb%]?)", text.strip().lower().replace(",", "").replace("_", ""))
    if not parts or float(parts[1]) <= 0:
        raise AdapterlabError(
            f"--budget {text!r} is not a size: give a share like 0.5%, or a number of parameters like 20000"
        )
    value = float(parts[1])
    if parts[2] == "%":
        if value > 100:
            raise AdapterlabError(f"--budget {text!r} is more than the model has: give at most 100%")
        value *= of / 100
    else:
        value *= _COUNTS[parts[2]]
    if value < 1:
        raise AdapterlabError(f"--budget {text!r} of {of:,} parameters is less than one: give more")
    return int(value)
