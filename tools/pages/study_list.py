"""List of the published studies: what was asked, the answer, and where the report is."""

from __future__ import annotations

from tools.pages.published import PublishedStudy, boards_of, listed


def study_list(studies: list[PublishedStudy]) -> str:
    """Return a section for each study.

    Args:
        studies: The published studies.
    """
    return "\n\n".join(_entry(study) for study in studies)


def studied(studies: list[PublishedStudy]) -> str:
    """Return which models were trained, and for how long, as a sentence.

    Args:
        studies: The published studies.
    """
    models = list(dict.fromkeys(study.model for study in studies))
    boards = list(boards_of(studies))
    steps = [board.steps for board in boards]
    examples = [board.steps * board.study.settings["training"]["batch"] for board in boards]
    return (
        f"The published studies train {listed(models)} for {min(steps)} to {max(steps)} steps, on "
        f"{min(examples)} to {max(examples)} examples."
    )


def _entry(study: PublishedStudy) -> str:
    verdict, settings = study.verdict, study.settings
    contestants = len({row["name"] for board in study.boards for row in board.rows})
    first, last = (
        edge([origin[when] for origin in verdict["origins"]]) for edge, when in ((min, "first"), (max, "last"))
    )
    when = f"on {first}" if first == last else f"from {first} to {last}"
    tested = [claim for claim in verdict.get("claims", []) if "untested" not in claim]
    settled = [claim for claim in tested if claim["resolved"] is not None]
    folder = study.report.removesuffix("/report.html")
    lines = [
        f"### {settings['title'] or settings['name']}",
        "",
        f"*Asked:* {contestants} contestants on {study.model}, tasks {', '.join(settings['tasks'])}. "
        f"*Answer:* {verdict['answer']}",
        "",
        f"- {study.trials['trial'].nunique():,} trials, {when}; {len(verdict['failures']) or 'none'} failed.",
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
