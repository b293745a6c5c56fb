r"""The whole data of a page, and its form inside HTML.

>>> embedded({"title": "</script><b>"})
'{"title":"\\u003c/script>\\u003cb>"}'
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from adapterlab.names import printable
from adapterlab.report.charts import colours
from adapterlab.report.data.boards import board_data, trials_data
from adapterlab.report.data.claims import map_data
from adapterlab.report.data.methods import contestants, methods
from adapterlab.verdict.study_analysis import Analysis

Json = dict[str, Any]
"""Plain data by key."""


def document(analysis: Analysis, names: Sequence[str]) -> Json:
    """Return the data that the interactive parts of a report are drawn from.

    Args:
        analysis: The analysis of a study.
        names: Names of its boards, in order.

    Returns:
        `study`, `contestants`, `methods`, `boards`, `map` (None without one) and `trials`.
    """
    study, judgement = analysis.study, analysis.judgement
    return {
        "study": study.name,
        "model": str(study.model),
        "parameters": analysis.model_parameters,
        "contestants": contestants(study, colours(analysis.main)),
        "methods": methods(study),
        "boards": [board_data(board, name) for board, name in zip(analysis.boards, names, strict=True)],
        "map": None if judgement is None else map_data(judgement),
        "trials": trials_data(analysis, names),
    }


def embedded(data: Json) -> str:
    """Return data as JSON that can stand in a script element.

    Args:
        data: The data.
    """
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return printable(text).replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
