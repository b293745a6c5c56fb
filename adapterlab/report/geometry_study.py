"""The section of a study's report on the weight changes of its trials.

The input are three small tables, filled from a ledger; `study_section` computes nothing but words and formats.

>>> rows = [Measured("full_ft", "prose", "stable_rank", Mean(5.6, 5.2, 6.0, 3), null=80.0)]
>>> shares = [Projected("full_ft", "prose", "low_rank", 39_424, Mean(0.27, 0.26, 0.28, 3), Mean(0.45, 0.4, 0.5, 3))]
>>> sentences(rows, shares)[0]
'Of the change that full_ft makes on prose, low rank expresses most: 27 % (26 % to 28 %) with 39,424 parameters.'
>>> "What the changes look like" in study_section(rows, shares)
True
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import altair as alt
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from adapterlab.geometry.hypotheses import all_hypotheses
from adapterlab.geometry.measures import all_measures
from adapterlab.lab.analysis.geometry import Mean, Measured, Projected
from adapterlab.lab.statistics.rank_correlation import RankCorrelation
from adapterlab.names import printable
from adapterlab.report.charts import PALETTE, WIDTH, data_chart, svg
from adapterlab.report.geometry_data import DataTable
from adapterlab.report.geometry_hypothesis_words import CAUTION, RESIDUAL
from adapterlab.report.geometry_numbers import measured, percent
from adapterlab.report.geometry_tables import title_of


@dataclass(frozen=True)
class SideBySide:
    """The two instruments on one claim of the map."""

    claim: str
    """Title of the claim."""
    contest: str
    """Result of its contest, in a few words."""
    geometry: str
    """Result of its test by geometry, in a few words."""
    sentence: str
    """Conclusion, such as that the bet is about optimization and not about representation."""
    disagree: bool = False
    """True if one supports the claim and the other opposes it."""


def sentences(measured_rows: Sequence[Measured], projected: Sequence[Projected]) -> tuple[str, ...]:
    """Return what is said of the changes, a sentence for each contestant and task, then one for each that was scored.

    Args:
        measured_rows: Measures of the changes.
        projected: Hypotheses, and what they express.
    """
    said = []
    for (contestant, task), found in _by_change(projected):
        known = [each for each in found if math.isfinite(each.expressed.value)]
        if not known:
            continue
        best = max(known, key=lambda each: each.expressed.value)
        said.append(
            f"Of the change that {contestant} makes on {task}, {_lower(title_of(best.hypothesis))} expresses most: "
            f"{_share(best.expressed)} with {best.parameters:,} parameters."
        )
        scored = [(each, each.gain) for each in known if each.gain is not None and math.isfinite(each.gain.value)]
        if scored:
            top, gain = max(scored, key=lambda each: each[1].value)
            same = "It also" if top is best else _title(title_of(top.hypothesis))
            said.append(f"{same} keeps most of the gain on the task: {_share(gain)}.")
        elif any(each.gain is not None for each in known):
            said.append("The change gains nothing on the task's test data, so that there is no share of a gain.")
    compared = [(row, row.null) for row in measured_rows if row.null is not None and math.isfinite(row.mean.low)]
    apart = [row for row, null in compared if not row.mean.low <= null <= row.mean.high]
    if compared:
        said.append(
            f"{len(apart)} of {len(compared)} comparisons with random changes of the same size show a difference: "
            "random changes "
            "are outside of the 95 % interval over seeds."
        )
    return tuple(said)


def drift_sentence(drift: RankCorrelation) -> str:
    """Return whether forgetting follows the drift of activations on general text, in words.

    Args:
        drift: Their rank correlation over the means of each contestant on each task.

    >>> print(drift_sentence(RankCorrelation(0.9, 0.5, 0.98, 0.001, 12)))
    Forgetting follows the drift of activations on general text: rank correlation 0.90 (0.50 to 0.98) over 12 means of a
    contestant on a task.
    """
    if drift.low > 0:
        said = "Forgetting follows the drift of activations on general text"
    elif drift.high < 0:
        said = "The more activations drift on general text, the less is forgotten"
    else:
        said = "Whether forgetting follows the drift of activations on general text is open"
    interval = f"({drift.low:.2f} to {drift.high:.2f})"
    return f"{said}: rank correlation {drift.rho:.2f} {interval} over {drift.pairs} means of a contestant on a task."


def study_section(
    measured_rows: Sequence[Measured],
    projected: Sequence[Projected],
    instruments: Sequence[SideBySide] = (),
    drift: RankCorrelation | None = None,
    heading: str = "What the changes look like",
    level: int = 2,
) -> Markup:
    """Return the section of a study's report on the weight changes of its trials, in the styles of the report.

    Args:
        measured_rows: Measures of the changes, by contestant and task.
        projected: Hypotheses, and what they express, by contestant and task.
        instruments: Claims with both a contest and a test by geometry.
        drift: Rank correlation of drift on general text with forgetting, over the means of each contestant on each task.
        heading: Heading of the section.
        level: Level of the heading.

    Returns:
        The section; empty if nothing was measured.
    """
    if not (measured_rows or projected or instruments):
        return Markup("")
    environment = Environment(
        loader=PackageLoader("adapterlab.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("geometry_study.html.jinja").render(
        heading=heading,
        level=level,
        sentences=[*sentences(measured_rows, projected), *([] if drift is None else [drift_sentence(drift)])],
        residual=RESIDUAL,
        caution=CAUTION,
        chart=Markup(expressed_chart(projected)) if projected else None,
        tables=[*_projected_tables(projected), *_measured_tables(measured_rows)],
        instruments=instruments,
        disagreeing=[each for each in instruments if each.disagree],
    )
    return Markup(printable(page))


def expressed_chart(projected: Sequence[Projected]) -> str:
    """Draw the share that each hypothesis expresses, with its interval: a panel for each contestant and task.

    Args:
        projected: Hypotheses, and what they express; at least one.

    Returns:
        The chart as SVG.
    """
    panels = []
    changes = _by_change(projected)
    columns = min(2, len(changes))
    for (contestant, task), found in changes:
        rows = [
            {
                "hypothesis": title_of(each.hypothesis),
                "expressed": each.expressed.value,
                "low": max(0.0, each.expressed.low) if math.isfinite(each.expressed.low) else each.expressed.value,
                "high": min(1.0, each.expressed.high) if math.isfinite(each.expressed.high) else each.expressed.value,
            }
            for each in sorted(found, key=lambda each: -each.expressed.value)
            if math.isfinite(each.expressed.value)
        ]
        y = alt.Y("hypothesis:N", sort=[str(row["hypothesis"]) for row in rows], title=None)
        axis, scale = alt.Axis(format="%", tickCount=5), alt.Scale(domain=[0, 1])
        base = data_chart(rows)
        bars = base.mark_rule(strokeWidth=2.5, color=PALETTE[0]).encode(
            x=alt.X("low:Q", title="share of the change that is expressed", axis=axis, scale=scale), x2="high:Q", y=y
        )
        points = base.mark_circle(size=90, opacity=1, color=PALETTE[0]).encode(x=alt.X("expressed:Q", scale=scale), y=y)
        width = (WIDTH - 180 * columns) / columns
        panels.append((bars + points).properties(title=f"{contestant} on {task}", width=width, height=22 * len(rows)))
    return svg(alt.concat(*panels, columns=2).resolve_scale(y="independent"))


def _by_change(projected: Sequence[Projected]) -> list[tuple[tuple[str, str], list[Projected]]]:
    def change(each: Projected) -> tuple[str, str]:
        return each.contestant, each.task

    order = list(dict.fromkeys(map(change, projected)))
    ordered = sorted(projected, key=lambda each: order.index(change(each)))
    return [(key, list(found)) for key, found in groupby(ordered, key=change)]


def _projected_tables(projected: Sequence[Projected]) -> list[DataTable]:
    return [
        DataTable(
            f"Hypotheses, {contestant} on {task}",
            (
                "hypothesis",
                "assumption",
                "parameters",
                "expressed (95 %)",
                "share of the gain (95 %)",
                "of the gain out of domain (95 %)",
                "forgetting (95 %)",
                "seeds",
            ),
            tuple(
                (
                    title_of(each.hypothesis) + ("" if each.converged else " (fit stopped early)"),
                    _statement(each.hypothesis),
                    f"{each.parameters:,}",
                    _share(each.expressed),
                    *("not scored" if share is None else _share(share) for share in (each.gain, each.ood)),
                    "not scored" if each.forgetting is None else _rise(each.forgetting),
                    str(each.expressed.seeds),
                )
                for each in sorted(found, key=lambda each: -each.expressed.value)
            ),
            words=2,
        )
        for (contestant, task), found in _by_change(projected)
    ]


def _measured_tables(rows: Sequence[Measured]) -> list[DataTable]:
    known = {measure.name: measure.title for measure in all_measures()}
    if not rows:
        return []
    return [
        DataTable(
            "Measures of the changes",
            ("contestant", "task", "measure", "mean (95 %)", "random changes", "seeds"),
            tuple(
                (
                    row.contestant,
                    row.task,
                    known.get(row.measure, row.measure),
                    _value(row.measure, row.mean),
                    "-" if row.null is None else measured(row.measure, row.null),
                    str(row.mean.seeds),
                )
                for row in rows
            ),
            words=3,
        )
    ]


def _statement(hypothesis: str) -> str:
    known = all_hypotheses()
    return known[hypothesis].statement if hypothesis in known else "-"


def _share(mean: Mean) -> str:
    if not math.isfinite(mean.value):
        return "unknown"
    if not math.isfinite(mean.low):
        return f"{percent(mean.value)} (no interval)"
    return f"{percent(mean.value)} ({percent(mean.low)} to {percent(mean.high)})"


def _rise(mean: Mean) -> str:
    if not math.isfinite(mean.value):
        return "unknown"
    if not math.isfinite(mean.low):
        return f"{mean.value:+.3f} (no interval)"
    return f"{mean.value:+.3f} ({mean.low:+.3f} to {mean.high:+.3f})"


def _value(name: str, mean: Mean) -> str:
    if not math.isfinite(mean.low):
        return f"{measured(name, mean.value)} (no interval)"
    return f"{measured(name, mean.value)} ({measured(name, mean.low)} to {measured(name, mean.high)})"


def _lower(title: str) -> str:
    return title if title[1:2].isupper() else title[:1].lower() + title[1:]


def _title(title: str) -> str:
    return title[:1].upper() + title[1:]
