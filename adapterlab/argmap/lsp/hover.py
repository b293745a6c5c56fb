r"""Texts that an editor shows beside a title: text, numbers, and the inferences of an argument.

>>> from adapterlab.argmap.lsp.document import Document
>>> analysis = Document("", "[Rain]: It rains. {credence: 0.8}", 1).analysis
>>> print(hover(analysis, analysis.occurrences[0]))
**\[Rain\]** claim
<BLANKLINE>
It rains.
<BLANKLINE>
credence 0.80 stated, 0.80 computed (quadratic-energy)
"""

from __future__ import annotations

import re

from adapterlab.argmap.lsp.document import Analysis
from adapterlab.argmap.lsp.occurrences import Occurrence
from adapterlab.argmap.model.map import Argument, Claim

_MARKS = re.compile(r"([\\`*_{}\[\]()#+\-!<>|~&])")


def hover(analysis: Analysis, found: Occurrence) -> str:
    """Return a text in Markdown about a title or tag.

    Args:
        analysis: The document.
        found: The title or tag.
    """
    if found.kind == "claim" and found.name in analysis.map.claims:
        return _claim(analysis, analysis.map.claims[found.name])
    if found.kind == "argument" and found.name in analysis.map.arguments:
        return _argument(analysis, analysis.map.arguments[found.name])
    if found.kind == "tag":
        return f"**{escaped('#' + found.name)}** {_times(len(analysis.by_name['tag', found.name]))}"
    return f"**{escaped(found.name)}** is not defined in this map"


def escaped(text: str) -> str:
    """Return a text in which no character marks something up in Markdown.

    Args:
        text: The text.
    """
    return _MARKS.sub(r"\\\1", text)


def _claim(analysis: Analysis, claim: Claim) -> str:
    found = analysis.scores.claims.get(claim.title) if analysis.scores else None
    numbers = [
        f"{name} {value:.2f} stated"
        for name, value in (("credence", claim.credence), ("prior", claim.prior))
        if value is not None
    ]
    if found and analysis.scores:
        name = "" if claim.credence is not None else "credence "
        numbers.append(f"{name}{found.credence:.2f} computed ({analysis.scores.semantics})")
    parts = [f"**{escaped(f'[{claim.title}]')}** {claim.role}", escaped(claim.text), ", ".join(numbers)]
    return "\n\n".join(part for part in parts if part)


def _argument(analysis: Analysis, argument: Argument) -> str:
    found = analysis.scores.arguments.get(argument.title) if analysis.scores else None
    steps = {step.conclusion_index: step for step in argument.steps}
    lines = []
    for index, (_, title) in enumerate(argument.numbered):
        if index in steps:
            step = steps[index]
            rules = f"{', '.join(step.rules)}: " if step.rules else ""
            inference = "not stated" if step.inference is None else f"{step.inference:.2f}"
            lines.append(escaped(f"---- {rules}inference {inference}"))
        lines.append(f"({index + 1}) {escaped(f'[{title}]: {analysis.map.claims[title].text}')}")
    strength = (
        f"strength {found.strength:.2f} computed ({analysis.scores.semantics})" if found and analysis.scores else ""
    )
    parts = [f"**{escaped(f'<{argument.title}>')}** argument", escaped(argument.text), "  \n".join(lines), strength]
    return "\n\n".join(part for part in parts if part)


def _times(number: int) -> str:
    return f"occurs {number} time{'s' * (number != 1)}"
