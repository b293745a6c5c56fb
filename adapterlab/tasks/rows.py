r"""Reading of a user's rows from JSONL, JSON, CSV and Parquet files, saved `datasets` folders, and folders of images.

Example:
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "sums.csv"
    ...     _ = path.write_text("prompt,completion\n1 + 1 = ,2\n")
    ...     form, rows = read(path)
    >>> print(form)
    prompt and completion
    >>> rows[0].values
    {'prompt': '1 + 1 = ', 'completion': '2'}
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from adapterlab.errors import AdapterlabError

FORMS = "'text', or 'prompt' and 'completion', or 'messages', or 'text' and 'label', or 'image' and 'label'"
"""The keys that a row may have, for error messages."""
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
"""Endings of image files."""
NESTED = "a row has values, and at most lists of messages"
"""End of the message about JSON that is nested too deeply."""
SURROGATE = re.compile("[\ud800-\udfff]")
_FILES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet")


class Form(StrEnum):
    """Kinds of rows, by their keys."""

    TEXT = "text"
    COMPLETION = "prompt and completion"
    CHAT = "messages"
    LABEL = "text and label"
    IMAGE = "image and label"

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys that a row of this form needs; its other keys are ignored."""
        return tuple(self.value.split(" and "))


@dataclass(frozen=True)
class Row:
    """One example as read from a file."""

    place: str
    """File and line, for error messages."""
    values: dict[str, Any]
    """Values by key, as the file's format gives them."""
    others: dict[str, Any] = field(default_factory=dict, compare=False)
    """Values of the keys that the form does not need, for a scorer of the user."""

    @property
    def content(self) -> bytes:
        """Hash of the values without the label; rows with equal values have equal hashes."""
        digest = hashlib.blake2b(digest_size=12)
        for key, value in sorted(self.values.items()):
            if key == "image" and isinstance(value, str):
                try:
                    digest.update(Path(value).read_bytes())
                except (OSError, ValueError) as error:
                    raise AdapterlabError(f"{self.place}: {_missing(value, error)}") from error
            elif hasattr(value, "tobytes"):
                digest.update(value.tobytes())
            elif key != "label":
                digest.update(f"{key}={json.dumps(value, sort_keys=True, default=repr)}".encode())
        return digest.digest()


def read(path: Path) -> tuple[Form, list[Row]]:
    """Read every row of a file or folder.

    Args:
        path: A file, a folder of files, a folder saved by the `datasets` library, or a folder of images in which each
            image's own folder is named after its label.

    Returns:
        The form that all rows share, and the rows.

    Raises:
        AdapterlabError: If the path does not exist, holds no rows, is not UTF-8 or malformed, or a row lacks keys, has
            another form than the first or a value of the wrong type. The message names the file, the line and the fix.
    """
    if not path.exists():
        raise AdapterlabError(f"{path} does not exist: give a JSONL or CSV file, or a folder")
    form: Form | None = None
    first, rows = "", []
    for row in _folder(path) if path.is_dir() else _file(path):
        found = _form(row)
        if form is None:
            form, first = found, row.place
        elif found is not form:
            raise AdapterlabError(
                f"{row.place}: a row of {found}, but {first} is a row of {form}: give all rows the same keys"
            )
        others = {key: value for key, value in row.values.items() if key not in form.keys}
        rows.append(Row(row.place, {key: row.values[key] for key in form.keys}, others))
        _check(rows[-1], form)
    if form is None:
        raise AdapterlabError(f"{path} holds no rows: give it at least one, with {FORMS}")
    return form, rows


def fingerprint(paths: Sequence[Path]) -> str:
    """Return a hash of the bytes of some files, and of every file in some folders.

    Args:
        paths: Files and folders.
    """
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(path)}/{file.stat().st_size}/".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _file(path: Path) -> Iterator[Row]:
    match path.suffix.lower():
        case ".jsonl" | ".ndjson":
            yield from _json_lines(path)
        case ".json":
            yield from _json(path)
        case ".csv":
            yield from _csv(path)
        case ".parquet":
            yield from _parquet(path)
        case other:
            raise AdapterlabError(
                f"{path}: files of type {other or '(no ending)'} cannot be read: give one of {', '.join(_FILES)}"
            )


def _folder(path: Path) -> Iterator[Row]:
    if (path / "dataset_dict.json").exists():
        parts = sorted(p.name for p in path.iterdir() if (p / "state.json").exists())
        raise AdapterlabError(f"{path} holds several datasets: give one of {', '.join(str(path / p) for p in parts)}")
    if (path / "state.json").exists():
        yield from _dataset(path)
        return
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in (*_FILES, *IMAGES))
    images = [p for p in files if p.suffix.lower() in IMAGES]
    for file in images or files:
        if images:
            yield Row(str(file), {"image": str(file), "label": file.parent.name})
        else:
            yield from _file(file)


def _dataset(path: Path) -> Iterator[Row]:
    try:
        import datasets
    except ImportError as error:
        raise AdapterlabError(
            f"{path} was written by the datasets library, which is not installed: pip install 'adapterlab[datasets]'"
        ) from error
    try:
        data = datasets.load_from_disk(str(path))
    except Exception as error:  # damaged folders cause errors of many types
        raise AdapterlabError(f"{path} cannot be read: {str(error).splitlines()[0]}: save the dataset again") from error
    names = {key: f.names for key, f in data.features.items() if isinstance(f, datasets.ClassLabel)}
    for i, values in enumerate(data):
        named = {key: names[key][values[key]] for key in names if values[key] is not None}
        yield Row(f"{path} row {i}", dict(values) | named)


def _text(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers, starting at 1."""
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise AdapterlabError(
                    f"{path}:{number}: not UTF-8 (byte 0x{line[error.start]:02x}): save the file as UTF-8"
                ) from error


def _json_lines(path: Path) -> Iterator[Row]:
    for number, line in _text(path):
        if line.strip():
            try:
                values = json.loads(line)
            except RecursionError as error:
                raise AdapterlabError(f"{path}:{number}: nested too deeply: {NESTED}") from error
            except ValueError as error:
                raise AdapterlabError(
                    f"{path}:{number}: not JSON ({error}): each line must be one object, like "
                    '{"prompt": "...", "completion": "..."}'
                ) from error
            yield _object(f"{path}:{number}", values)


def _json(path: Path) -> Iterator[Row]:
    try:
        values = json.loads("".join(line for _, line in _text(path)))
    except RecursionError as error:
        raise AdapterlabError(f"{path}: nested too deeply: {NESTED}") from error
    except ValueError as error:
        raise AdapterlabError(
            f"{path}: not JSON ({error}): if each line holds one object, name the file .jsonl"
        ) from error
    for i, value in enumerate(values if isinstance(values, list) else [values]):
        yield _object(f"{path} item {i}", value)


def _object(place: str, values: object) -> Row:
    if not isinstance(values, dict):
        raise AdapterlabError(f"{place}: a {type(values).__name__} is not a row: give an object with {FORMS}")
    return Row(place, values)


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(1 << 30)
    reader = csv.reader((line for _, line in _text(path)), strict=True)
    try:
        header = next(reader, [])
        for values in reader:
            if values and len(values) != len(header):
                raise AdapterlabError(
                    f"{path}:{reader.line_num}: {len(values)} columns where the first line names {len(header)}: "
                    "put quotes around values that contain commas"
                )
            if values:
                yield Row(f"{path}:{reader.line_num}", dict(zip(header, values, strict=True)))
    except csv.Error as error:
        raise AdapterlabError(f"{path}:{reader.line_num}: not CSV ({error}): check the quotes") from error


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise AdapterlabError(f"{path}: not Parquet ({str(error).splitlines()[0]}): write the file again") from error
    for i in range(table.num_rows):
        try:
            (values,) = table.slice(i, 1).to_pylist()
        except (pyarrow.ArrowException, ValueError, OverflowError) as error:  # such as text that is not UTF-8
            raise AdapterlabError(f"{path} row {i}: {error}: write the file again, with text as UTF-8") from error
        yield Row(f"{path} row {i}", values)


def _form(row: Row) -> Form:
    # A row of text and label also has the keys of a text, so the form with fewer keys comes last.
    for form in (Form.CHAT, Form.COMPLETION, Form.IMAGE, Form.LABEL, Form.TEXT):
        if all(row.values.get(key) is not None for key in form.keys):
            return form
    keys = ", ".join(repr(key) for key in row.values) or "no key"
    raise AdapterlabError(f"{row.place}: has {keys}: a row needs {FORMS}")


def _check(row: Row, form: Form) -> None:
    for key, value in row.values.items():
        if key in ("text", "prompt", "completion"):
            if not isinstance(value, str):
                raise AdapterlabError(f"{row.place}: {key!r} is {value!r}, not a string: put it in quotes")
            if not value.strip() and key != "prompt":
                raise AdapterlabError(f"{row.place}: {key!r} is empty, so there is nothing to learn: take the row out")
        if wrong := _not_text(value):
            raise AdapterlabError(
                f"{row.place}: {key!r} holds {wrong}, half of a character, which is no text: save the file again as UTF-8"
            )
        if key == "label" and (isinstance(value, float | bool | list | dict) or not str(value).strip()):
            raise AdapterlabError(f"{row.place}: label {value!r} is not a class: give a word or a whole number")
    if form is Form.CHAT:
        _check_messages(row)


def _not_text(value: object) -> str | None:
    """Return a lone surrogate in a value, as an escape, or None; JSON can hold one, and a tokenizer cannot read it."""
    if isinstance(value, list):
        return next((wrong for item in value if (wrong := _not_text(item))), None)
    if isinstance(value, dict):
        return _not_text([*value, *value.values()])
    found = SURROGATE.search(value) if isinstance(value, str) else None
    return None if found is None else ascii(found.group())[1:-1]


def _missing(image: str, error: Exception) -> str:
    reason = getattr(error, "strerror", None) or error
    return f"the image {image!a} cannot be read ({reason}): give the path of a file, or take the row out"


def _check_messages(row: Row) -> None:
    messages = row.values["messages"]
    if not isinstance(messages, list) or not all(
        isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in messages
    ):
        raise AdapterlabError(f'{row.place}: \'messages\' must be a list of {{"role": ..., "content": ...}}')
    if not any(m["role"] == "assistant" and m["content"].strip() for m in messages):
        raise AdapterlabError(f"{row.place}: the assistant has no turn, so there is nothing to learn: take the row out")
