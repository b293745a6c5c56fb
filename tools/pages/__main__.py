"""Write the parts of the pages that come from published results: `python -m tools.pages`."""

from __future__ import annotations

from tools.pages.decisions import decisions, short_answer
from tools.pages.marked import names_of, with_parts
from tools.pages.published import ROOT, published_studies
from tools.pages.rates import ranks, rates, rates_answer, rates_of_lora, rates_of_others
from tools.pages.scoreboards import literature, scoreboards
from tools.pages.study_list import studied, study_list

PAGES = ROOT / "docs"
WRITERS = {
    "answer": short_answer,
    "decisions": decisions,
    "scoreboards": scoreboards,
    "literature": literature,
    "rates": rates,
    "rates-answer": rates_answer,
    "rates-of-lora": rates_of_lora,
    "rates-of-others": rates_of_others,
    "ranks": ranks,
    "studies": study_list,
    "studied": studied,
}
"""Functions that write the marked parts, by their names."""


def made_pages() -> dict[str, str]:
    """Return the pages with marked parts, as the published results make them, by file name."""
    studies = published_studies()
    pages = {path.name: path.read_text("utf-8") for path in sorted(PAGES.glob("*.md"))}
    wanted = {name for page in pages.values() for name in names_of(page)}
    parts = {name: WRITERS[name](studies) for name in wanted}
    return {name: with_parts(page, parts) for name, page in pages.items() if names_of(page)}


if __name__ == "__main__":
    for name, page in made_pages().items():
        (PAGES / name).write_text(page, "utf-8")
