"""Charts of a sweep: the gain of each contestant at the levels of one factor, as self-contained SVG.

>>> from adapterlab.lab.analysis.responses import LevelGain
>>> from adapterlab.lab.statistics import paired
>>> gains = [LevelGain(rank, paired([0.05, 0.052, 0.051]), None, 1.0, 100, 0.1) for rank in (2, 8)]
>>> response(Response("lora", "rank", tuple(gains), 0.005), palette={"lora": "#2f6fb5"}, unit="nats per byte")[:4]
'<svg'
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import altair as alt

from adapterlab.lab.analysis.responses import Response
from adapterlab.lab.study.sweep import RISING, level_name
from adapterlab.report.charts import WIDTH, colour_of, data_chart, svg

APART = 0.05
"""Distance between contestants at one level, so that their intervals do not cover each other, as a share of a doubling."""
TITLES = {
    "steps": "training steps",
    "rank": "rank",
    "budget": "trained parameters that contestants are sized to",
    "targets": "modules that are adapted",
    "model": "base model",
}


def response(*responses: Response, palette: Mapping[str, str], unit: str) -> str:
    """Draw the gain of each contestant at each level, with its 95 % interval.

    Args:
        *responses: Responses to one factor, at least one.
        palette: By contestant, its colour.
        unit: Unit of the gains.

    Returns:
        The chart as SVG.
    """
    factor = responses[0].factor
    rising = factor in RISING
    rows = [
        {
            "contestant": found.contestant,
            "place": float(str(level.level)) * 2 ** (APART * (i - (len(responses) - 1) / 2)) if rising else "",
            "level": level_name(level.level),
            "gain": level.gain.mean,
            "low": level.gain.low if math.isfinite(level.gain.low) else level.gain.mean,
            "high": level.gain.high if math.isfinite(level.gain.high) else level.gain.mean,
        }
        for i, found in enumerate(responses)
        for level in found.levels
        if level.finished
    ]
    levels = [level.level for level in responses[0].levels]
    shown = {name: colour for name, colour in palette.items() if name in {found.contestant for found in responses}}
    title = f"learned in-domain, {unit}"
    base = data_chart(rows).encode(color=colour_of(shown, legend=True))
    y = alt.Y("gain:Q", title=title, scale=alt.Scale(zero=False, nice=True), axis=alt.Axis(format=".3f", tickCount=6))
    if rising:
        axis = alt.Axis(
            values=[float(str(level)) for level in levels], labelExpr="format(datum.value, ',')", grid=False
        )
        scale = alt.Scale(type="log", nice=False, padding=40)
        base = base.encode(x=alt.X("place:Q", title=TITLES[factor], scale=scale, axis=axis))
        joined = [base.mark_line(strokeWidth=1.5, opacity=0.5).encode(y=y)]
    else:
        names = [level_name(level) for level in levels]
        base = base.encode(
            x=alt.X("level:N", title=TITLES[factor], sort=names, axis=alt.Axis(labelAngle=0)),
            xOffset=alt.XOffset("contestant:N", sort=list(shown), scale=alt.Scale(paddingOuter=0.45)),
        )
        joined = []
    bars = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title=title), y2="high:Q")
    points = base.mark_circle(size=90, opacity=1).encode(y=y)
    return svg(alt.layer(*joined, bars, points).properties(width=WIDTH - 230, height=260))
