"""The code that published trials ran with, beside the code of this checkout.

    python tools/published_code.py record results/NAME --commit abc1234
    python tools/published_code.py table

`record` writes `code.json` beside `trials.parquet`: every file whose code decides one of the outcomes, with the hash of its
code. The trials' ids hold a hash over these, so a record that does not belong to the trials is refused. It is run once,
with the code that the trials ran with: in a checkout of that commit, or with PYTHONPATH set to one.

`table` compares the records with this checkout, and writes what has changed since into the README of each folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parent.parent
TRIALS, RECORD = "trials.parquet", "code.json"
GEOMETRY = "geometry"
"""Stands for an adapter and a task in the entry for the code that measures geometry."""
START, END = "<!-- code: tools/published_code.py -->", "<!-- end of code -->"
"""Lines around the part of a README that is written."""
Files = Mapping[str, str]
"""By file or library, the hash of its code or its version."""


@dataclass(frozen=True)
class Change:
    """A file that is not as it was when the trials ran."""

    file: str
    kind: str
    """`changed`, `new` or `gone`."""
    decides: tuple[str, ...]
    """Adapters, tasks or geometry whose trials it decides."""


def published() -> list[Path]:
    """Folders with published trials."""
    return sorted(path.parent for path in (ROOT / "results").rglob(TRIALS))


def version_of(files: Files) -> str:
    """The hash that trials' ids hold, of the files in their order: source files, then libraries."""
    ordered = sorted(files.items(), key=lambda item: (not item[0].endswith(".py"), item[0]))
    digest = hashlib.blake2b(digest_size=6)
    for label, hashed in ordered:
        digest.update(f"{label} {hashed}\n".encode())
    return digest.hexdigest()


def codes_of(folder: Path) -> dict[str, str]:
    """By `adapter/task`, the hash of the code that the published trials ran with, and that of measured geometry."""
    frame = pd.read_parquet(folder / TRIALS)
    codes = {f"{adapter}/{task}": set(rows["code"]) for (adapter, task), rows in frame.groupby(["adapter", "task"])}
    specs = [json.loads(text)["trial"]["geometry"] for text in frame["record"].dropna()]
    if measured := {json.loads(spec)["code"] for spec in specs if spec}:
        codes[GEOMETRY] = measured
    if several := sorted(key for key, found in codes.items() if len(found) > 1):
        raise SystemExit(f"{folder}: trials of {', '.join(several)} ran with several versions of the code")
    return {key: found.pop() for key, found in codes.items()}


def files_now(key: str) -> dict[str, str]:
    """The files that decide the outcome of an adapter on a task in the package that is imported."""
    from adapterlab.lab.trial import code_version as code
    from adapterlab.tasks import task

    if key != GEOMETRY:
        adapter, name = key.split("/")
        return dict(code.decisive_files(adapter, task(name)))
    closure = code._shared(tuple(code.registered().items()))
    return dict(closure.digests(code._geometry(closure)))


def record(folder: Path, commit: str) -> None:
    """Write the record of a folder."""
    codes = codes_of(folder)
    found = {key: files_now(key) for key in codes}
    if wrong := [key for key, files in found.items() if version_of(files) != codes[key]]:
        raise SystemExit(
            f"the trials of {', '.join(wrong)} in {folder} ran with other code than the package imported here"
        )
    everywhere = sorted(set.intersection(*(set(files) for key, files in found.items() if key != GEOMETRY)))
    content = {
        "commit": commit,
        "files": dict(sorted({file: hashed for files in found.values() for file, hashed in files.items()}.items())),
        "everywhere": everywhere,
        "besides": {
            key: sorted(set(files) - set(everywhere) if key != GEOMETRY else files) for key, files in found.items()
        },
    }
    (folder / RECORD).write_text(json.dumps(content, indent=1) + "\n")


def recorded(folder: Path) -> dict[str, dict[str, str]]:
    """By `adapter/task`, the files and hashes of a folder's record."""
    content = json.loads((folder / RECORD).read_text())
    return {
        key: {file: content["files"][file] for file in (*(content["everywhere"] if key != GEOMETRY else ()), *besides)}
        for key, besides in content["besides"].items()
    }


def changes(before: Mapping[str, Files], now: Mapping[str, Files]) -> list[Change]:
    """The files that differ, those that decide most first."""
    found: dict[tuple[str, str], list[str]] = {}
    for key, files in before.items():
        for file in sorted({*files, *now[key]}):
            if files.get(file) != now[key].get(file):
                kind = "new" if file not in files else "changed" if file in now[key] else "gone"
                found.setdefault((file, kind), []).append(key)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [Change(file, kind, tuple(keys)) for (file, kind), keys in ordered]


def section(folder: Path) -> str:
    """The part of a README about the code."""
    before = recorded(folder)
    found = changes(before, {key: files_now(key) for key in before})
    commit = json.loads((folder / RECORD).read_text())["commit"]
    frame = pd.read_parquet(folder / TRIALS).drop_duplicates("trial")
    affected = {key for change in found for key in change.decides}
    kept = sum(
        f"{adapter}/{task}" not in affected for adapter, task in zip(frame["adapter"], frame["task"], strict=True)
    )
    files = {file for of in before.values() for file in of}
    link = (folder / RECORD).relative_to(readme_of(folder).parent).as_posix()
    lines = [
        START,
        "",
        f"The outcomes of these {len(frame)} trials were decided by {len(files)} files, at commit {commit}",
        f"([code.json]({link}) has the hash of each; the trials' ids hold them). Comments and docstrings do not count.",
    ]
    if not found:
        return "\n".join([*lines, "None of them has changed since: a run of the study uses these trials.", "", END])
    count = "1 file has" if len(found) == 1 else f"{len(found)} files have"
    used = "none of these trials" if not kept else f"{kept} of these trials"
    lines += [
        f"Since then {count} changed: a run of the study with this version uses {used} and trains the others",
        "again. `make reproduce` says by how much outcomes differ.",
        "",
        "| file | | decides |",
        "|:--|:--|:--|",
        *(f"| `{change.file}` | {change.kind} | {_decides(change.decides, before)} |" for change in found),
        "",
        END,
    ]
    return "\n".join(lines)


def _decides(keys: Sequence[str], before: Iterable[str]) -> str:
    trained = [key for key in before if key != GEOMETRY]
    if set(trained) <= set(keys):
        return "all trials"
    if list(keys) == [GEOMETRY]:
        return "measured geometry"
    adapters = list(dict.fromkeys(key.split("/")[0] for key in keys))
    return f"trials of {', '.join(adapters)}"


def updated(readme: str, text: str) -> str:
    """A README with its part about the code replaced, or added at the end."""
    part = re.compile(re.escape(START) + ".*?" + re.escape(END), re.DOTALL)
    if part.search(readme):
        return part.sub(lambda _: text, readme)
    return f"{readme.rstrip()}\n\n## The code since then\n\n{text}\n"


def readme_of(folder: Path) -> Path:
    """The README that describes a folder: its own, or that of the folder above."""
    return next(path for path in (folder / "README.md", folder.parent / "README.md") if path.is_file())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="write code.json, with the code that the trials ran with")
    recording.add_argument("folder", type=Path)
    recording.add_argument("--commit", required=True, help="commit that the trials ran at")
    commands.add_parser("table", help="write what has changed since into each README")
    given = parser.parse_args(arguments)
    if given.command == "record":
        record(given.folder, given.commit)
        return
    for folder in published():
        readme = readme_of(folder)
        readme.write_text(updated(readme.read_text(), section(folder)))
        print(readme.relative_to(ROOT), file=sys.stderr)


if __name__ == "__main__":
    main()
