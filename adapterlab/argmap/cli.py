"""Command line: `adapterlab map ...`.

Imports are inside the commands, so that `--help` is fast.

>>> {"check", "score", "render"} <= {command.name for command in app.registered_commands}
True
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from adapterlab.argmap import cli_writing
from adapterlab.argmap.cli_options import (
    AsJson,
    File,
    SemanticsName,
    Sets,
    SkipBroken,
    ThesisTitle,
    Watch,
    read_map,
    show,
    show_json,
)
from adapterlab.argmap.syntax.gc_pause import gc_paused

if TYPE_CHECKING:
    from adapterlab.argmap.syntax.diagnostics import Diagnostic

app = typer.Typer(help="Check, score, compare, edit and draw argument maps.", no_args_is_help=True)


@app.command("check")
@gc_paused()
def _check(
    file: File,
    as_json: AsJson = False,
    missing: Annotated[str, typer.Option(help="Severity of a missing evidence file: warning or error.")] = "warning",
    evidence: Annotated[bool, typer.Option(help="Compare quotes with the files that their claims link.")] = True,
    links: Annotated[
        list[str] | None,
        typer.Option(help="A folder in links and its name on disk: docs=papers. May be repeated."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Report missing credences and inferences in a map without any too.")
    ] = False,
    watching: Watch = False,
) -> None:
    """Find errors and warnings in a map. The exit code is 1 if there are errors.

    Missing credences and inferences are errors if the map has at least one credence, prior or inference.
    """
    from adapterlab.argmap.tools.watch import watch
    from adapterlab.errors import AdapterlabError, UnknownNameError

    if missing not in ("warning", "error"):
        raise UnknownNameError("severity", missing, ["warning", "error"], "--missing")
    severity: Literal["warning", "error"] = "error" if missing == "error" else "warning"
    moved = _moved_folders(links or [])
    options = _Checks(severity if evidence else None, moved, strict)
    if watching:
        if as_json:
            raise AdapterlabError("--watch prints lines for people: leave out --json")
        watch(file, lambda: _checked(file, options)[0])
    summary, found = _checked(file, options, quiet=as_json)
    if as_json:
        shown = {"file": str(file), "diagnostics": [d.to_json() for d in found]}
        show_json(shown)
    else:
        show(summary)
    if any(d.severity == "error" for d in found):
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Checks:
    missing: Literal["warning", "error"] | None
    """Severity of a missing evidence file; None to leave evidence out."""
    moved: dict[str, str]
    strict: bool


def _checked(file: Path, options: _Checks, quiet: bool = False) -> tuple[str, list[Diagnostic]]:
    """Check a map and print the findings; return a summary and the findings."""
    from adapterlab.argmap.lint.checks import check
    from adapterlab.argmap.lint.evidence import check_evidence
    from adapterlab.argmap.lint.further import CHECKS
    from adapterlab.argmap.lint.numbers import is_quantitative
    from adapterlab.argmap.model.files import read
    from adapterlab.argmap.syntax.diagnostics import errors

    the_map = read(file)
    found = check(the_map, options.strict)
    found.extend(diagnostic for further in CHECKS for diagnostic in further(the_map))
    if options.missing:
        found.extend(check_evidence(the_map, file.parent, options.missing, options.moved))
    found.sort(key=lambda d: d.order)
    if not quiet:
        for diagnostic in found:
            show(diagnostic.render(the_map.source))
    wrong = len(errors(found))
    counts = f"{wrong} error{'s' * (wrong != 1)}, {len(found) - wrong} warnings"
    summary = f"{file}: {len(the_map.claims)} claims, {len(the_map.arguments)} arguments; {counts}"
    if not options.strict and not is_quantitative(the_map):
        summary += "\nThe map has no numbers, so missing ones are not reported (--strict reports them)."
    return summary, found


def _moved_folders(links: list[str]) -> dict[str, str]:
    from adapterlab.errors import AdapterlabError

    moved = {}
    for pair in links:
        old, separator, new = pair.partition("=")
        if not separator or not old or not new:
            raise AdapterlabError(f"--links {pair}: write the folder in the links, =, and the folder on disk: old=new")
        moved[old] = new
    return moved


@app.command("score")
@gc_paused()
def _score(
    file: File,
    semantics: SemanticsName = None,
    as_json: AsJson = False,
    skip_broken: SkipBroken = False,
    interval: Annotated[bool, typer.Option("--interval", help="Add 90 % intervals from a simulation.")] = False,
    size: Annotated[float, typer.Option(help="Sample size, for intervals, of numbers without n:.")] = 10.0,
) -> None:
    """Compute the credence of each claim."""
    from adapterlab.argmap.scoring.scores import score
    from adapterlab.argmap.scoring.uncertainty import intervals

    the_map = read_map(file, skip_broken)
    scores = score(the_map, semantics, skip_broken=skip_broken)
    spans = intervals(the_map, semantics, size, skip_broken=skip_broken) if interval else {}
    if as_json:
        shown = scores.to_json()
        for title, span in spans.items():
            shown["claims"][title]["interval"] = [span.low, span.high]
        show_json(shown)
        return
    for warning in scores.warnings:
        show(f"warning: {warning}")
    show(f"{scores.semantics}")
    order = {"thesis": 0, "conclusion": 1, "claim": 2, "premise": 3}
    for title, claim in sorted(scores.claims.items(), key=lambda item: order[item[1].role]):
        span_shown = f"  [{spans[title].low:.2f}, {spans[title].high:.2f}]" if title in spans else ""
        show(f"{claim.credence:6.3f}{span_shown}  {claim.role:<10}  [{title}]")


@app.command("crux")
def _crux(
    file: File,
    thesis: ThesisTitle = None,
    semantics: SemanticsName = None,
    as_json: AsJson = False,
    skip_broken: SkipBroken = False,
    top: Annotated[int, typer.Option(help="Number of rows.")] = 20,
) -> None:
    """Show the numbers that change a thesis most, and the values at which it crosses one half."""
    from dataclasses import asdict

    from adapterlab.argmap.scoring.scores import score
    from adapterlab.argmap.scoring.sensitivity import first_thesis, one_way_sensitivities

    the_map = read_map(file, skip_broken)
    title = thesis or first_thesis(the_map)
    title = title[1:-1] if title.startswith("[") and title.endswith("]") else title
    found = one_way_sensitivities(the_map, title, semantics, skip_broken=skip_broken)[: max(top, 0)]
    scores = score(the_map, semantics, skip_broken=skip_broken)
    credence = scores.claims[title].credence
    if as_json:
        shown = {
            "thesis": title,
            "credence": credence,
            "semantics": scores.semantics,
            "cruxes": [asdict(c) | {"swing": c.swing} for c in found],
        }
        show_json(shown)
        return
    show(f"[{title}] {credence:.3f}  ({scores.semantics})")
    show(" slope   at 0   at 1  tips at   0" + " " * 18 + "half" + " " * 17 + "1")
    for c in found:
        tips = f"{c.tips_at:.2f}" if c.tips_at is not None else "never"
        show(f"{c.slope:+6.3f}  {c.low:5.3f}  {c.high:5.3f}  {tips:>7}   {_bar(c.low, c.high, credence)}  {c.name}")


def _bar(low: float, high: float, now: float, width: int = 41) -> str:
    """Return a bar of a tornado plot: a range within [0, 1], with a mark at the present value."""
    first, last = sorted(round(value * (width - 1)) for value in (low, high))
    cells = ["█" if first <= i <= last else "·" for i in range(width)]
    cells[round(now * (width - 1))] = "┃"
    return "".join(cells)


@app.command("what-if")
def _what_if(
    file: File,
    sets: Sets = None,
    semantics: SemanticsName = None,
    as_json: AsJson = False,
    skip_broken: SkipBroken = False,
    write: Annotated[
        bool, typer.Option("--write", help="Also write the numbers into the files; their other bytes stay the same.")
    ] = False,
) -> None:
    """Show how credences change with other numbers."""
    from adapterlab.argmap.model.files import write_text
    from adapterlab.argmap.scoring.scores import score
    from adapterlab.argmap.tools.edit import edited_files

    the_map, numbers = read_map(file, skip_broken), _numbers(sets)
    before = score(the_map, semantics, skip_broken=skip_broken)
    after = score(the_map, semantics, numbers, skip_broken)
    if as_json:
        show_json({"before": before.to_json(), "after": after.to_json()})
    else:
        changed = [(t, before.claims[t].credence, c.credence) for t, c in after.claims.items()]
        changed = [item for item in changed if abs(item[1] - item[2]) >= 0.0005]
        for title, old, new in sorted(changed, key=lambda item: -abs(item[2] - item[1])):
            show(f"{old:.3f} -> {new:.3f}  ({new - old:+.3f})  [{title}]")
        if not changed:
            show("no credence changes by 0.0005 or more")
    if write:
        for name, text in edited_files(the_map, numbers).items():
            write_text(Path(name), text)


def _numbers(sets: list[str] | None) -> dict[str, float]:
    from adapterlab.errors import AdapterlabError

    if not sets:
        raise AdapterlabError('give a number to change: --set "[Claim]=0.3"')
    numbers = {}
    for item in sets:
        name, _, value = item.rpartition("=")
        try:
            numbers[name.strip()] = float(value)
        except ValueError:
            raise AdapterlabError(f"--set {item!r}: write it as [Claim]=0.3 or <Argument>=0.8") from None
    return numbers


@app.command("diff")
def _diff(
    before: File,
    after: File,
    semantics: SemanticsName = None,
    as_json: AsJson = False,
    skip_broken: SkipBroken = False,
) -> None:
    """Show the differences between two maps, and between their credences."""
    from dataclasses import asdict

    from adapterlab.argmap.tools.diff import diff_maps

    found = diff_maps(read_map(before, skip_broken), read_map(after, skip_broken), semantics, skip_broken)
    if as_json:
        show_json([asdict(change) for change in found.changes])
        return
    for change in found.changes:
        values = f": {change.before} -> {change.after}" if change.before or change.after else ""
        show(f"{change.kind:<9} {change.name}{values}")
    if not found.changes:
        show("no differences")


cli_writing.add_to(app)
