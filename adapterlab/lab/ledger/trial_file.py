"""A ledger as one Parquet file, which `export` writes and `import-trials` reads on another machine.

The file is the table of trials for pandas with two more columns: what a row of the ledger has besides, and a checksum. Its
metadata hold the files of the folder of results by which a run goes on as it began: the study, its design with the dates,
its precision, and the locks of maps.

>>> from tempfile import mkdtemp
>>> folder = Path(mkdtemp())
>>> none = pd.DataFrame({"trial": []}, dtype="string")
>>> write_trial_file(none, Ledger(folder / "ledger.sqlite"), folder / "trials.parquet")
>>> read_trial_file(folder / "trials.parquet").records
()
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from adapterlab.errors import AdapterlabError
from adapterlab.files import writing
from adapterlab.lab.ledger.records import CHECKSUM, LISTS, RECORD, Record, decode, encode
from adapterlab.lab.ledger.store import Ledger

FORMAT = 1
"""Version of the file's form."""
KEY = b"adapterlab"
"""Key of the file's own metadata."""
CARRIED = re.compile(r"study\.json|design\.json|precision\.json|[\w.-]+\.lock\.json")
"""Names of the files that are carried."""


@dataclass(frozen=True)
class TrialFile:
    """Content of a file."""

    path: Path
    records: tuple[Record, ...]
    """Rows of the ledger, each once."""
    files: Mapping[str, str]
    """Files of the folder of results, as text by name."""
    contestants: Mapping[str, str] = field(default_factory=dict)
    """By trial's id, its contestants in the study, joined; trials that the study did not use are left out."""


def write_trial_file(frame: pd.DataFrame, ledger: Ledger, path: Path) -> None:
    """Write a table of trials with all that their ledger holds, whole or not at all.

    Args:
        frame: The table, with a column `trial`; a trial may have several rows.
        ledger: The ledger; the files beside it go with it.
        path: The file.

    Raises:
        AdapterlabError: If the file cannot be written.
    """
    cells = {record.id: encode(record) for record in ledger.records()}
    first = ~frame["trial"].duplicated()
    more = {
        key: pd.Series(
            [cells[name][key] if once else None for name, once in zip(frame["trial"], first, strict=True)],
            dtype="string",
            index=frame.index,
        )
        for key in (RECORD, CHECKSUM)
    }
    lists = {
        key: pd.Series([cells[name][key] for name in frame["trial"]], dtype="string", index=frame.index)
        for key in LISTS
    }
    table = pa.Table.from_pandas(frame.assign(**lists, **more), preserve_index=False)
    about = json.dumps({"format": FORMAT, "files": carried_files(ledger.path.parent)})
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), KEY: about.encode()})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as partial:
            pq.write_table(table, partial, compression="zstd")
    except OSError as error:
        raise AdapterlabError(f"cannot write {path}: {error.strerror or error}") from error


def carried_files(folder: Path) -> dict[str, str]:
    """Return the files of a folder of results that go with its ledger, as text by name.

    Args:
        folder: The folder.
    """
    found = sorted(path for path in folder.iterdir() if path.is_file() and CARRIED.fullmatch(path.name))
    return {path.name: path.read_text("utf-8") for path in found}


def read_trial_file(path: Path) -> TrialFile:
    """Read a file, and check every row of it.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        AdapterlabError: If it is not a Parquet file, was not written by `export`, has another format, or a row is damaged,
            is there twice or has an id that does not match its content.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        reason = "it is not a Parquet file, or is damaged" if path.is_file() else "there is no such file"
        raise AdapterlabError(f"{path} cannot be read: {reason}; give a file that `adapterlab export` wrote") from error
    about = _about(path, table)
    columns = ("trial", RECORD, CHECKSUM, *LISTS)
    if missing := [name for name in columns if name not in table.column_names]:
        raise AdapterlabError(
            f"{path} has no column {', '.join(missing)}: give the file that `adapterlab export` wrote, with all its columns"
        )
    records = _records(path, table.select(columns).to_pylist())
    return TrialFile(path, records, about["files"], _contestants(table))


def _contestants(table: pa.Table) -> dict[str, str]:
    if "contestant" not in table.column_names:
        return {}
    names: dict[str, list[str]] = {}
    for row in table.select(("trial", "contestant")).to_pylist():
        if row["contestant"] is not None:
            names.setdefault(row["trial"], []).append(str(row["contestant"]))
    return {trial: " and ".join(dict.fromkeys(found)) for trial, found in names.items()}


def _about(path: Path, table: pa.Table) -> dict[str, Any]:
    """Return the metadata of a file, checked."""
    again = "write it again with `adapterlab export`"
    if KEY not in (table.schema.metadata or {}):
        raise AdapterlabError(
            f"{path} holds no ledger: it was written by another program or by a version before 1.0; {again}"
        )
    try:
        about = json.loads(table.schema.metadata[KEY])
        found, files = about["format"], about["files"]
        whole = all(isinstance(text, str) and CARRIED.fullmatch(name) for name, text in files.items())
    except (ValueError, TypeError, KeyError, AttributeError):
        found, whole = None, False
    if found != FORMAT and found is not None:
        raise AdapterlabError(f"{path} has format {found}, but this program reads format {FORMAT}: update adapterlab")
    if not whole:
        raise AdapterlabError(f"{path} has damaged metadata: {again}")
    return dict(about)


def _records(path: Path, rows: list[dict[str, Any]]) -> tuple[Record, ...]:
    records: dict[str, Record] = {}
    named = set()
    for i, row in enumerate(rows, 1):
        name = row["trial"]
        named.add(name)
        if row[RECORD] is None and row[CHECKSUM] is None:
            continue  # a further row of a trial that several contestants share
        try:
            found = decode(name, row)
        except ValueError as error:
            raise AdapterlabError(
                f"{path}: row {i}, trial {name}, is damaged: {error}; nothing was imported"
            ) from error
        if name in records:
            raise AdapterlabError(f"{path}: row {i}, trial {name}, is there twice; nothing was imported")
        records[name] = found
    if lacking := sorted(named - records.keys(), key=str):
        raise AdapterlabError(f"{path}: trial {lacking[0]} has no record; nothing was imported")
    return tuple(records.values())
