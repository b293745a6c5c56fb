"""The texts on which ours and the reference are compared."""

from __future__ import annotations

import json
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
BUILT_IN = ROOT / "maps" / "natural_manifold.argdown"
SOURCES_MAP = ROOT.parent / "shared" / "sources" / "adapters_vargdown.argdown"
GENERATED = HERE / "generated.json"
STORED = HERE / "stored.json"
MENDED_BEFORE = "(2) [SVD Causal Not Correlational]"


def read(path: Path) -> str:
    """A file's text with its line ends as they are."""
    return path.read_bytes().decode()


def written() -> dict[str, str]:
    """The texts written by hand: one for each construct, and those that the reference rejects."""
    found = {path.stem: read(path) for path in sorted(HERE.glob("corpus/*.argdown"))}
    found |= {f"rejected_{path.stem}": read(path) for path in sorted(HERE.glob("rejected/*.argdown"))}
    return found | {"built_in_map": read(BUILT_IN)}


def generated() -> dict[str, str]:
    """200 maps that hypothesis made."""
    texts = json.loads(GENERATED.read_text(encoding="utf-8"))
    return {f"generated_{number:03}": text for number, text in enumerate(texts)}


def sources_map(mended: bool) -> str:
    """The sources' map, if wished with the inference line that it lacks."""
    text = read(SOURCES_MAP)
    return text.replace(MENDED_BEFORE, f"----\n{MENDED_BEFORE}") if mended else text
