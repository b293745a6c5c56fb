r"""The `dictionary` task: words and their meanings, from WordNet.

WordNet 3 is free to use and copy under the WordNet licence of Princeton University. Debian's package `wordnet-base` puts its
files where this task looks for them; another place is named by WordNet's own variable `WNSEARCHDIR`.

>>> line = "00001740 03 n 01 entity 0 000 | that which is perceived; \"it was an entity\""
>>> meaning(line)
('entity', 'that which is perceived')
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from adapterlab.errors import AdapterlabError
from adapterlab.tasks.base import Part
from adapterlab.tasks.text import Completion, CompletionTask, first_by_hash

FOLDER = Path("/usr/share/wordnet")
"""Folder of Debian's package."""
KINDS = {"noun": "noun", "verb": "verb"}
"""Kinds of words, by the ending of WordNet's files, except out of domain."""
OTHER_KINDS = {"adv": "adverb"}
"""Kinds of words out of domain."""
LONGEST = 160
"""Most characters of a meaning."""
ENTRIES = {Part.TRAIN: 8_000, Part.VALIDATION: 600, Part.TEST: 600, Part.OOD: 600}
"""Most entries of each part, chosen by a hash of the word and its meaning."""


class Dictionary(CompletionTask):
    """A word and its kind, completed by its meaning."""

    name = "dictionary"
    title = "Words and their meanings"
    explanation = (
        "Knowledge in the words of one source: a noun or a verb is given, and its gloss in WordNet is asked for. The words "
        "of the test were not trained on. Out of domain: adverbs."
    )
    packed = True

    def completions(self, part: Part) -> Sequence[Completion]:
        return _completions(_folder(), part)

    def fingerprint(self) -> str:
        return f"WordNet {_hash(_folder())}, read by Python {platform.python_version()}"


def meaning(line: str) -> tuple[str, str] | None:
    """Return the first word of an entry and its meaning without examples; None for other lines.

    Args:
        line: A line of one of WordNet's files of data.
    """
    fields, bar, gloss = line.partition(" | ")
    if line.startswith("  ") or not bar:
        return None
    word = fields.split()[4].partition("(")[0].replace("_", " ")
    return word, gloss.split('; "')[0].strip().rstrip(";")


def _folder() -> Path:
    """Return the folder of WordNet's files."""
    folder = Path(os.environ.get("WNSEARCHDIR") or FOLDER)
    for kind in (*KINDS, *OTHER_KINDS):
        if not (folder / f"data.{kind}").is_file():
            raise AdapterlabError(
                f"the task dictionary needs WordNet, and there is no {folder / f'data.{kind}'}: apt-get install "
                "wordnet-base, or set WNSEARCHDIR to the folder of its files"
            )
    return folder


@cache
def _hash(folder: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for kind in (*KINDS, *OTHER_KINDS):
        digest.update((folder / f"data.{kind}").read_bytes())
    return digest.hexdigest()


@cache
def _completions(folder: Path, part: Part) -> tuple[Completion, ...]:
    """Return the entries of a part; a hash of the word decides, so that all meanings of a word are in one part."""
    kinds = OTHER_KINDS if part is Part.OOD else KINDS
    # A word of two kinds is left out out of domain, where its meaning would be that of another kind.
    known = {word for word, _ in _entries(folder, tuple(KINDS.items()))} if part is Part.OOD else set()
    found = (
        Completion(f"{word} ({kind}):", f" {text}")
        for kind, word, text in _named(folder, kinds)
        if (part is Part.OOD and word not in known) or (part is not Part.OOD and _part_of(word) is part)
    )
    return tuple(first_by_hash((("".join(each), each) for each in found), ENTRIES[part], "dictionary"))


def _named(folder: Path, kinds: dict[str, str]) -> Iterator[tuple[str, str, str]]:
    for ending, kind in kinds.items():
        for word, text in _entries(folder, ((ending, kind),)):
            yield kind, word, text


@cache
def _entries(folder: Path, kinds: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """Return the words with the first meaning of each, in the order of the files."""
    found: dict[str, str] = {}
    for ending, _ in kinds:
        for line in (folder / f"data.{ending}").read_text("utf-8", "replace").splitlines():
            entry = meaning(line)
            if entry is not None and 0 < len(entry[1]) <= LONGEST:
                found.setdefault(*entry)
    return tuple(found.items())


def _part_of(word: str) -> Part:
    first_byte = hashlib.sha256(word.encode()).digest()[0]
    return Part.VALIDATION if first_byte < 16 else Part.TEST if first_byte < 32 else Part.TRAIN
