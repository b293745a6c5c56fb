"""Made-up words in the format of WordNet's files of data (wndb(5WN))."""

from __future__ import annotations

from pathlib import Path

HEADER = "  1 This software and database is being provided to you, the LICENSEE, under a license.  \n"


def write_wordnet(folder: Path, words: int = 900) -> Path:
    """Write nouns, verbs and adverbs; every tenth verb is a noun too."""
    for kind, letter, count in (("noun", "n", words), ("verb", "v", words), ("adv", "r", words // 4)):
        lines = [HEADER]
        for i in range(count):
            word = f"noun_{i}" if kind == "verb" and i % 10 == 0 else f"{kind}_{i}"
            gloss = f'the {i}th {kind}, made up; "a {kind} {i} in a sentence"; "another"'
            lines.append(f"{i:08d} 03 {letter} 02 {word} 0 synonym_{i} 0 001 @ 00001740 n 0000 | {gloss}  \n")
        (folder / f"data.{kind}").write_text("".join(lines))
    return folder
