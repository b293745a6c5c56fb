"""The list of answers of the page *Which adapter?*, each from the published studies, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from adapterlab.adapters import all_adapters
from adapterlab.adapters.base import Adapter
from tools.pages.published import MODELS, Board, PublishedStudy, Row, boards_of, has, interval, is_told_apart, listed
from tools.pages.scoreboards import forgets_less, step_times
from tools.pages.search_curves import tolerances

SMALL = 0.5
"""Share of the reference's parameters up to which a contestant counts as smaller."""


def short_answer(studies: list[PublishedStudy]) -> str:
    """Return the answer in a few sentences.

    Args:
        studies: The published studies.
    """
    boards = list(boards_of(studies))
    count = "the published study" if len(studies) == 1 else f"the {len(studies)} published studies"
    reference = boards[0].reference
    leaders = {row["name"] for board in boards for row in board.ranked if _learns_more(row)}
    if leaders:
        text = [
            f"**It depends on the case.** In {count}, {len(leaders)} adapters learn more than {reference} by a difference "
            "that is told apart from chance:"
        ]
    else:
        text = [
            f"**Take {reference}, and tune its learning rate.** In {count}, no adapter learns more than {reference} by a "
            "difference that can be told from chance:"
        ]
    text.append("")
    for board in boards:
        learned = board.row(board.reference)["gain"]["mean"]
        bounds = {row["name"]: row["versus_reference"]["high"] or 0.0 for row in board.ranked}
        most = max(bounds, key=bounds.__getitem__)
        leads = [row for row in board.ranked if _learns_more(row)]
        named = [f"{row['name']} by {interval(row['versus_reference'])}" for row in leads[:3]]
        found = f"told apart: {listed(named)}" + (f", and {len(leads) - 3} more" if len(leads) > 3 else "")
        text.append(
            f"- {board.link}, {len(board.ranked)} adapters: {found if leads else 'nothing told apart'}; what the intervals "
            f"leave possible is a lead of {bounds[most]:.2g} {board.data['unit']} ({most}), "
            f"{100 * bounds[most] / learned:.0f} % of what {board.reference} learns."
        )
    if any("**" in line for board in boards for line in _forgets_least(board)):
        text += ["", "Forgetting does differ: [which forget least](which-adapter.md#least-forgetting)."]
    return "\n".join(text)


def decisions(studies: list[PublishedStudy]) -> str:
    """Return the questions with the answer of each study.

    Args:
        studies: The published studies.
    """
    questions: list[tuple[str, str, Callable[[Board], Iterator[str]]]] = [
        ("Most learned", "The default question: which learns most from the same data with the same parameters?", _most),
        ("Least forgetting", "You want the model to keep what it knew.", _forgets_least),
        ("Smallest file", "You store or send many adapters.", _smallest),
        (
            "No time to tune",
            "You will try one learning rate, and it may be off. How much of the gain is left at a rate 1.8 times too high "
            "or too low, the worse of both, from the lowest to the highest task (one seed and half the steps, so without an "
            "interval):",
            _tolerant,
        ),
    ]
    parts = []
    for title, why, answer in questions:
        lines = [f"- {board.link}: {' '.join(answer(board))}" for board in boards_of(studies)]
        parts.append("\n".join([f"### {title}", "", why, "", *lines]))
    return "\n\n".join([*parts, _fastest(), _quantized(studies), _merged()])


def _learns_more(row: Row) -> bool:
    versus = row["versus_reference"]
    return is_told_apart(versus, row["p_holm"]) and versus["mean"] > 0


def _learns_less(row: Row) -> bool:
    versus = row["versus_reference"]
    return is_told_apart(versus, row["p_holm"]) and versus["mean"] < 0


def _most(board: Board) -> Iterator[str]:
    best = max(board.ranked, key=lambda row: row["versus_reference"]["mean"])
    more = [row["name"] for row in board.ranked if _learns_more(row)]
    less = [row["name"] for row in board.ranked if _learns_less(row)]
    lead = f"The first, {best['name']}, is ahead by {interval(best['versus_reference'])} {board.data['unit']}"
    if more:
        yield f"**{listed(more)}** learn{'s' if len(more) == 1 else ''} more than {board.reference}. {lead}."
    else:
        yield f"nothing is told apart from {board.reference} for the better. {lead}."
    if less:
        yield f"Told apart for the worse: {listed(less)}."


def _forgets_least(board: Board) -> Iterator[str]:
    kept = {
        row["name"]: row["less_forgetting_at_equal_learning"]
        for row in board.ranked
        if has(row["less_forgetting_at_equal_learning"])
    }
    unit = board.data["unit"]
    if kept:
        best = max(kept, key=lambda name: kept[name]["mean"] or 0.0)
        apart = [name for name, at in kept.items() if is_told_apart(at, at["p_holm"]) and at["mean"] > 0]
        lead = f"at equal learning, {best} forgets {interval(kept[best])} {unit} less than {board.reference}"
        if apart:
            yield f"{lead}; told apart from {board.reference}: **{listed(apart)}**."
        else:
            yield f"{lead}, the largest difference; nothing is told apart from {board.reference} for the better."
        more = [name for name, at in kept.items() if is_told_apart(at, at["p_holm"]) and at["mean"] < 0]
        if more:
            yield f"Told apart for the worse: {listed(more)}."
        turned = [name for name in more if _turned(board, name)]
        if turned:
            yield (
                f"That compares {board.reference} turned down after training to the others' learning. Stopped earlier in "
                f"training at their learning, it forgets more than {len(turned)} of these {len(more)}."
            )
        return
    paired = {name: effect for name, effect in forgets_less(board.study).items() if board.reference == "lora"}
    apart = [name for name, effect in paired.items() if (effect["low"] or 0.0) > 0]
    measured = [row for row in board.rows if row["ranked"] and has(row["forgetting"])]
    least = min(measured, key=lambda row: row["forgetting"]["mean"])
    yield (
        f"as trained, {least['name']} forgets least, {interval(least['forgetting'])} {unit}; at equal learning nothing was "
        "measured."
    )
    if paired:
        shown = "; ".join(
            (f"**{name} {interval(effect)}**" if name in apart else f"{name} {interval(effect)}")
            + (f" (on {listed(effect['tasks'])})" if len(effect["tasks"]) < len(board.data["tasks"]) else "")
            for name, effect in paired.items()
        )
        yield (
            f"Less than {board.reference}, in paired runs: {shown}. "
            + ("In bold, told apart, not corrected for their number." if apart else "Nothing is told apart.")
        )


def _turned(board: Board, name: str) -> bool:
    """Return True if a contestant forgets less than the reference where learning is made equal by stopping earlier."""
    other = board.data["at_equal_learning"][name]["forgetting"].get("training")
    return other is not None and (other["low"] or 0.0) > 0


def _smallest(board: Board) -> Iterator[str]:
    size = board.row(board.reference)["parameters"]
    small = [row for row in board.ranked if row["parameters"] <= SMALL * size]
    if not small:
        yield "all adapters were made equally large, so nothing was measured."
        return
    # What learns most for its size: every smaller one learns less.
    front = [row for row in small if not any(_at_most(other, row) for other in small)]
    shown = [
        f"{row['name']} with {row['parameters'] / size:.2g} of the parameters learns {interval(row['versus_reference'])} "
        f"{board.data['unit']} more ({'**told apart: less**' if _learns_less(row) else 'not told apart'})"
        for row in sorted(front, key=lambda row: -row["parameters"])[:4]
    ]
    yield f"beside {board.reference} with {size:,} parameters, {'; '.join(shown)}."


def _at_most(other: Row, row: Row) -> bool:
    """Return True if another contestant learns more than one with as many parameters or fewer."""
    return other["parameters"] <= row["parameters"] and other["gain"]["mean"] > row["gain"]["mean"]


def _tolerant(board: Board) -> Iterator[str]:
    kept = {row["name"]: [at.kept for at in tolerances(board, row["name"])] for row in board.rows if row["ranked"]}
    kept = {name: shares for name, shares in kept.items() if len(shares) == len(board.data["tasks"])}
    if not kept:
        yield "the searches did not try both neighbours of the best rate."
        return
    order = sorted(kept, key=lambda name: -min(kept[name]))
    shown = [*order[:3], *([board.reference] if board.reference in order[3:] else [])]
    found = "; ".join(f"{name} {_range(kept[name])}" for name in shown)
    yield f"{found}."


def _range(shares: list[float]) -> str:
    low, high = (round(100 * at) for at in (min(shares), max(shares)))
    return f"{low} %" if low == high else f"{low} to {high} %"


def _fastest() -> str:
    times = {name: by for name, by in step_times().items() if name in _own() and len(by) > 1}
    own = times.pop("lora")
    fast = sorted(name for name, by in times.items() if all(at < own[tokens] - 0.05 for tokens, at in by.items()))
    slow = sorted(name for name, by in times.items() if all(at > own[tokens] + 0.2 for tokens, at in by.items()))
    lengths = " and ".join(sorted(own, key=int))
    against = " and ".join(f"{own[tokens]:.2f}" for tokens in sorted(own, key=int))
    return "\n".join(
        [
            "### Fastest step",
            "",
            f"You pay for each hour. [Measured in turns with LoRA](performance.md) on one CPU, at {lengths} tokens; medians "
            f"without an interval, and LoRA against itself gives {against}, so differences below 0.05 say nothing.",
            "",
            f"- faster than LoRA by more than 0.05 at both lengths: {listed(fast)};",
            f"- slower by more than 0.2 at both lengths: {listed(slow)};",
            "- the others are not told apart from LoRA.",
        ]
    )


def _own() -> dict[str, type[Adapter]]:
    """Return the methods of the package, without those that the present process has added."""
    return {name: method for name, method in all_adapters().items() if method.__module__.startswith("adapterlab.")}


def _quantized(studies: list[PublishedStudy]) -> str:
    unknown = [study.settings["name"] for study in studies if study.settings["model"] not in MODELS]
    but = f" Not known: {listed(unknown)}." if unknown else ""
    return "\n".join(
        [
            "### Quantized base",
            "",
            "Your base model is in 4 or 8 bits. Every method of linear layers can be attached to it, and none can be merged "
            "into it ([how](coming-from-peft.md#quantized-bases)).",
            "",
            f"- Not measured: the base of the published studies is in full precision, so nothing is told apart.{but}",
        ]
    )


def _merged() -> str:
    apart = sorted(name for name, method in _own().items() if not method.mergeable)
    return "\n".join(
        [
            "### One merged model",
            "",
            "You serve the model without an adapter beside it. What can be merged runs at the base's speed "
            "([measured](performance.md)) and gives the same answers up to rounding, so the choice is one of those above.",
            "",
            f"- These cannot be merged: {listed(apart)}. All others can.",
        ]
    )
