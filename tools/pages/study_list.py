"""List of the published studies: what was asked, the answer, and where the report is."""

from __future__ import annotations

from tools.pages.published import PublishedStudy


def study_list(studies: list[PublishedStudy]) -> str:
    """Return a section for each study.

    Args:
        studies: The published studies.
    """
    return "\n\n".join(_entry(study) for study in studies)


def _entry(study: PublishedStudy) -> str:
    verdict, settings = study.verdict, study.settings
    contestants = len({row["name"] for board in study.boards for row in board.rows})
    first, last = (
        edge([origin[when] for origin in verdict["origins"]]) for edge, when in ((min, "first"), (max, "last"))
    )
    tested = [claim for claim in verdict.get("claims", []) if "untested" not in claim]
    settled = [claim for claim in tested if claim["resolved"] is not None]
    folder = study.report.removesuffix("/report.html")
    lines = [
        f"### {settings['title'] or settings['name']}",
        "",
        f"*Asked:* {contestants} contestants on {study.model}, tasks {', '.join(settings['tasks'])}. "
        f"*Answer:* {verdict['answer']}",
        "",
        f"- {len(study.trials):,} trials, from {first} to {last}; {len(verdict['failures'])} failed."
        if verdict["failures"]
        else f"- {len(study.trials):,} trials, from {first} to {last}; none failed.",
    ]
    if tested:
        moved = "; ".join(
            f"{thesis} from {by['bayes']['before']:.3f} to {by['bayes']['after']:.3f}"
            for thesis, by in verdict["theses"].items()
        )
        lines.append(
            f"- {len(tested)} claims of the argument map were tested, {len(settled)} of them settled for these tasks. "
            f"The thesis: {moved}. {verdict['lock']['remark']}"
        )
    lines.append(
        f"- [Report]({folder}/report.html), [verdict]({folder}/verdict.json), [trials]({folder}/trials.parquet), "
        f"[design]({folder}/design.json); [what was done]({_readme(study)})"
    )
    return "\n".join(lines)


def _readme(study: PublishedStudy) -> str:
    folder = study.folder
    while not (folder / "README.md").is_file():
        folder = folder.parent
    levels = len(study.folder.relative_to(folder).parts)
    parts = study.report.split("/")[: -1 - levels]
    return "/".join([*parts, "README.md"])
