"""Store summaries of the corpus as the reference reads it: `python -m tests.argmap.reference.regenerate`.

`--generate` also regenerates the 200 generated maps; `--install` only installs the reference (npm), so that the tests
can compare the stored summaries with it.
"""

from __future__ import annotations

import json
import sys
from itertools import count, islice

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.argmap import strategies
from tests.argmap.reference import corpus, reference_cli, summary

MAPS, A_SEED = 200, 20


def of_seed(number: int) -> list[str]:
    """Return a few maps. Few for each seed, because hypothesis varies its previous examples."""
    texts: list[str] = []

    @seed(number)
    @settings(max_examples=A_SEED, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(strategies.argument_map())
    def collect(text: str) -> None:
        if len(text) < 1500 and text not in texts:
            texts.append(text)

    collect()
    return texts


def generate() -> list[str]:
    """Return maps that the reference accepts."""
    accepted: list[str] = []
    seeds = count(1)
    while len(accepted) < MAPS:
        texts = [text for number in islice(seeds, 10) for text in of_seed(number)]
        exported = reference_cli.export({f"{index:04}": text for index, text in enumerate(texts)})
        accepted.extend(text for text, found in zip(texts, exported.values(), strict=True) if found)
    step = len(accepted) / MAPS
    return [accepted[int(index * step)] for index in range(MAPS)]


def main() -> None:
    """Write `stored.json`, and `generated.json` if requested."""
    if "--install" in sys.argv:
        reference_cli.install()
        return
    if reference_cli.binary() is None:
        reference_cli.install()
    if "--generate" in sys.argv or not corpus.GENERATED.exists():
        corpus.GENERATED.write_text(json.dumps(generate(), ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    exported = reference_cli.export(corpus.written() | corpus.generated())
    stored = {name: found and summary.of_reference(found) for name, found in exported.items()}
    lines = [
        f"{json.dumps(name)}: {json.dumps(found, ensure_ascii=False, sort_keys=True)}" for name, found in stored.items()
    ]
    corpus.STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    rejected = sum(found is None for found in stored.values())
    print(f"{len(stored)} texts, {rejected} of them rejected by @argdown/cli {reference_cli.VERSION}")


if __name__ == "__main__":
    main()
