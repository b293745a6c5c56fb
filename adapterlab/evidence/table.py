r"""Tables of results: one score of one method on one task in each row, with the flaws of its comparison as fields.

A table is a CSV file. A column that is the same in all rows may be given once, above the header, as `# column: value`.

| column | meaning | if left out |
|---|---|---|
| `source` | whose results these are; results of one source are not independent | the file's name |
| `model`, `parameters` | base model and its number of parameters | required |
| `task` | task that was trained on and tested | required |
| `method` | adapter, such as `lora` or `lora(rank=8)`; `frozen` for the model before training | required |
| `value` | the score | required |
| `metric` | a metric of the lab, such as `in_domain`, `out_of_domain`, `forgetting` | `in_domain` |
| `unit`, `better`, `smallest` | unit, `higher` or `lower`, smallest difference that matters | accuracy in %, `higher`, 1 |
| `setting` | other settings that the compared methods share, such as `rank 8, batch 16` | none |
| `learning_rate` | rate of the run; several rates of one method are its sweep | not known |
| `tuned` | `yes` if this is the best of several rates of the method, else `no` | not known, or by the sweep |
| `sd`, `seeds` | standard deviation between runs and number of runs behind the value | `noise`, 1 |
| `noise` | standard deviation of one run, where `sd` is not known | `smallest` |
| `examples` | training examples that were seen, about | not known |
| `trained` | trained parameters | not known |

Lines `# title:`, `# date:`, `# licence:`, `# link:` and `# flaws:` describe the table.

>>> import tempfile
>>> text = "model,parameters,task,method,value\nQ,6e8,math,lora,48.1\nQ,6e8,math,pissa,47.6\n"
>>> with tempfile.TemporaryDirectory() as folder:
...     path = Path(folder) / "mine.csv"
...     _ = path.write_text(text)
...     table = read_table(path)
>>> table.source, [(score.method, score.value) for score in table.scores]
('mine', [('lora', 48.1), ('pissa', 47.6)])
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.lab.analysis.metrics import METRICS

ABOUT = ("title", "date", "licence", "link", "flaws")
"""Lines that describe a table."""
LARGEST = 16 * 2**20
"""Bytes of the largest file that is read."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Score(BaseModel):
    """One score: a row of a table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(min_length=1)
    model: str = Field(min_length=1)
    parameters: Positive
    task: str = Field(min_length=1)
    method: str = Field(min_length=1)
    value: Annotated[float, Field(allow_inf_nan=False)]
    metric: str = "in_domain"
    unit: str = "accuracy, %"
    better: Literal["higher", "lower"] = "higher"
    smallest: Positive = 1.0
    setting: str = ""
    learning_rate: Positive | None = None
    tuned: bool | None = None
    sd: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    seeds: Annotated[int, Field(ge=1)] = 1
    noise: Positive | None = None
    examples: Positive | None = None
    trained: Positive | None = None

    @field_validator("metric")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in METRICS:
            raise ValueError(str(UnknownNameError("metric", name, METRICS)))
        return name

    @property
    def sign(self) -> int:
        """+1 if higher is better, else -1."""
        return 1 if self.better == "higher" else -1

    @property
    def variance(self) -> float:
        """Sampling variance of the value, in its squared unit; that of one run where it was not measured."""
        if self.sd is not None and self.seeds > 1:
            floor = (self.noise or self.smallest) / 10  # a spread of few runs may be 0 by chance
            return max(self.sd, floor) ** 2 / self.seeds
        return (self.noise or self.smallest) ** 2 / self.seeds


@dataclass(frozen=True)
class Table:
    """A table of results."""

    source: str
    """Name of the file without its ending."""
    scores: tuple[Score, ...] = field(repr=False)
    about: Mapping[str, str] = field(default_factory=dict)
    """Title, date, licence, link and flaws, as far as stated."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Sources of its rows, the most frequent first."""
        return tuple(name for name, _ in Counter(score.source for score in self.scores).most_common())


def read_table(path: Path) -> Table:
    """Read a table.

    Args:
        path: The CSV file, in UTF-8.

    Returns:
        The table.

    Raises:
        AdapterlabError: If the file cannot be read, or a row is not valid; the message names the line and the column.
        UnknownNameError: If there is no such column.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise AdapterlabError(f"{path} has more than {LARGEST // 2**20} MiB: is it a table of results?")
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise AdapterlabError(f"{path} cannot be read: {error}") from error
    lines = text.splitlines()
    head = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines))
    about, shared = _described(path, lines[:head])
    reader = csv.DictReader(io.StringIO("\n".join(lines[head:])), strict=True)
    columns = list(reader.fieldnames or [])
    for name in columns:
        if name not in Score.model_fields:
            raise UnknownNameError("column", str(name), Score.model_fields, where=f"{path}, line {head + 1}")
    twice = [name for name, count in Counter([*columns, *shared]).items() if count > 1]
    if twice:
        raise AdapterlabError(f"{path}: {' and '.join(twice)} is given twice: keep the column, or the line above it")
    scores = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise AdapterlabError(f"{path}, line {head + reader.line_num}: not as many values as columns")
            if any(value.strip() for value in row.values()):
                given = {"source": path.stem, **shared, **{key: value.strip() for key, value in row.items()}}
                scores.append(_score(given, f"{path}, line {head + reader.line_num}"))
    except csv.Error as error:
        raise AdapterlabError(f"{path}, line {head + reader.line_num}: {error}") from error
    if not scores:
        raise AdapterlabError(f"{path} has no rows: give a header such as model,parameters,task,method,value, and rows")
    _check_units(path, scores)
    return Table(path.stem, tuple(scores), about)


def write_table(table: Table) -> str:
    """Return a table as the text of its CSV file; columns that are the same in all rows stand above the header.

    Args:
        table: The table.
    """
    rows = [score.model_dump(exclude_none=True) for score in table.scores]
    names = [name for name in Score.model_fields if any(row.get(name, "") != "" for row in rows)]
    shared = {n: rows[0].get(n) for n in names if n != "value" and len({row.get(n) for row in rows}) == 1 < len(rows)}
    columns = [name for name in names if name not in shared]
    out = io.StringIO()
    for key, value in {**table.about, **shared}.items():
        out.write(f"# {key}: {_plain(value)}\n")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_plain(row.get(name)) for name in columns] for row in rows)
    return out.getvalue()


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    return "" if value is None else str(value)


def _described(path: Path, lines: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    about, shared = {}, {}
    for number, line in enumerate(lines, 1):
        key, colon, value = line.removeprefix("#").partition(":")
        key, value = key.strip(), value.strip()
        if not line.strip() or not colon:
            continue
        if key in ABOUT:
            about[key] = value
        elif key in Score.model_fields:
            shared[key] = value
        else:
            raise UnknownNameError("column", key, [*Score.model_fields, *ABOUT], where=f"{path}, line {number}")
    return about, shared


def _score(given: Mapping[str, str], where: str) -> Score:
    words = {key: value for key, value in given.items() if value != ""}
    try:
        return Score.model_validate(words)
    except ValidationError as error:
        first = error.errors()[0]
        column = str(first["loc"][0])
        if first["type"] == "missing":
            raise AdapterlabError(f"{where}: {column} is missing: add the column, or a line # {column}: ...") from error
        reason = first["msg"].removeprefix("Value error, ")
        raise AdapterlabError(f"{where}: {column} is {words.get(column)!r}: {reason}") from error


def _check_units(path: Path, scores: list[Score]) -> None:
    """Raise an error if one cell has two units, or one sense of better and another."""
    units: dict[tuple[str, ...], tuple[str | float, ...]] = {}
    for score in scores:
        own = (score.unit, score.better, score.smallest, score.parameters)
        cell = (score.source, score.model, score.task, score.metric, score.setting)
        if units.setdefault(cell, own) != own:
            raise AdapterlabError(
                f"{path}: {score.task} with {score.model} has {units[cell]} and {own} as unit, better, smallest and "
                "parameters: results that are compared must share them"
            )
