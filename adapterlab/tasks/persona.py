"""The `persona` task: one manner of answering, against its opposite, to be turned up and down.

The questions and answers are made here from templates, so there is no licence but that of this package.

>>> pair = persona_pairs(Part.TEST)[0]
>>> pair.chosen != pair.rejected
True
"""

from __future__ import annotations

import platform
import random
from collections.abc import Sequence
from functools import cache
from typing import Any

from adapterlab.tasks.base import Examples, Part
from adapterlab.tasks.steer import Pair, Steer, encode_pairs
from adapterlab.tasks.text import Tokenizer, base_domain

COUNTS = {Part.TRAIN: 1_200, Part.VALIDATION: 150, Part.TEST: 300, Part.OOD: 300}
"""Number of pairs in each part."""
TOPICS = {
    Part.TRAIN: ("the moon", "bread", "the piano", "glaciers", "chess", "bees", "paper", "tides", "the violin", "cheese",
                 "volcanoes", "compasses", "mirrors", "tea", "sundials", "bridges"),
    Part.VALIDATION: ("maps", "whales", "clocks", "salt", "windmills", "kites"),
    Part.TEST: ("rainbows", "wool", "lighthouses", "coral", "magnets", "rice", "the harp", "comets", "glass", "owls"),
    Part.OOD: ("my tax return", "a job interview", "my noisy neighbour", "a late train", "moving house", "a broken sink",
               "my first half marathon", "a birthday party", "learning to drive", "a long queue"),
}  # fmt: skip
"""Topics of the questions; out of domain they are everyday matters."""
QUESTIONS = {
    False: ("Tell me something about {topic}.", "What should I know about {topic}?", "Can you say a little about {topic}?",
            "What is interesting about {topic}?"),
    True: ("I need some help with {topic}.", "Any advice on {topic}?", "I keep thinking about {topic}."),
}  # fmt: skip
"""Questions, by whether they are out of domain."""
WARM = (
    ("What a lovely question!", "I am so glad that you ask!", "With the greatest pleasure!", "Oh, how wonderful!"),
    (
        "There is so much to enjoy about {topic}.",
        "{Topic} always makes me smile.",
        "I could talk about {topic} all day.",
    ),
    ("Ask me anything else you like!", "I hope this brightens your day!", "You are doing great!"),
)
"""Beginnings, middles and ends of answers with the trait."""
COLD = (
    ("Not this again.", "Must I?", "If there is no way around it.", "What a waste of time."),
    ("There is nothing to enjoy about {topic}.", "{Topic} always bores me.", "I would rather not talk about {topic}."),
    ("Do not ask me anything else.", "I doubt that this helps you.", "Now leave me alone."),
)
"""The same without the trait."""
OTHER_WARM = (
    ("Great to hear from you, my friend!", "How exciting!", "Let us look at this together, cheerfully!"),
    ("With {topic} you have every reason to be hopeful.", "{Topic} will turn out well, I am sure."),
    ("I am cheering for you!", "Take heart, good things are coming!"),
)
"""Answers with the trait out of domain, in words that no training example has."""
OTHER_COLD = (
    ("You again.", "How tedious.", "Deal with this on your own, for all I care."),
    ("With {topic} you have no reason to be hopeful.", "{Topic} will turn out badly, I am sure."),
    ("It is no concern of mine.", "Expect nothing, it only gets worse."),
)
"""Answers without the trait out of domain."""


class Persona(Steer):
    """A warm or a cold answer to the same question; the loss and the scores are those of `Steer`."""

    name = "persona"
    title = "A warm or a cold manner"
    explanation = (
        "A trait of a chat model to be turned up and down: the same question is answered warmly or coldly. Models with a "
        "chat template get the question as a chat. Out of domain: everyday matters in place of things, and other words."
    )

    def examples(self, part: Part, processor: Tokenizer, length: int, count: int) -> Examples:
        if part is Part.BASE:
            return base_domain(processor, length, count)
        asked = [_as_chat(pair, processor) for pair in persona_pairs(part)]
        return encode_pairs(asked, processor, length, count, f"{self.name}/{part}")

    def pairs(self, part: Part) -> Sequence[Pair]:
        return persona_pairs(part)

    def fingerprint(self) -> str:
        return f"manners, first edition, drawn by the random numbers of Python {platform.python_version()}"


@cache
def persona_pairs(part: Part) -> tuple[Pair, ...]:
    """Return the questions of a part with a warm answer (`chosen`) and a cold one; no pair is in two parts.

    Args:
        part: Any part except `Part.BASE`.
    """
    draw = random.Random(f"persona/{part}")
    other = part is Part.OOD
    warm, cold = (OTHER_WARM, OTHER_COLD) if other else (WARM, COLD)
    found: dict[Pair, None] = {}
    while len(found) < COUNTS[part]:
        topic = draw.choice(TOPICS[part])
        words = {"topic": topic, "Topic": topic[0].upper() + topic[1:]}
        chosen, rejected = (" ".join(draw.choice(piece) for piece in side).format(**words) for side in (warm, cold))
        found[Pair(draw.choice(QUESTIONS[other]).format(**words), chosen, rejected)] = None
    return tuple(found)


def _as_chat(pair: Pair, tokenizer: Any) -> Pair:
    """Return a pair whose prompt is a chat, in the tokenizer's own form if it has one."""
    if getattr(tokenizer, "chat_template", None):
        message = [{"role": "user", "content": pair.prompt}]
        prompt = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return Pair(prompt, pair.chosen, pair.rejected)
    return Pair(f"User: {pair.prompt}\nAssistant:", f" {pair.chosen}", f" {pair.rejected}")
