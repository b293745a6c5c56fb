"""Argdown's shortcodes: `.E.` or `:E:` in a source stands for the sign ∃.

>>> SHORTCODES[".E."], SHORTCODES[":->:"]
('∃', '→')
>>> with_own({"model": {"shortcodes": {":sun:": {"unicode": "☀"}}}})[":sun:"]
'☀'
"""

from __future__ import annotations

from collections.abc import Mapping

_LOGIC = "A ∀ E ∃ O 𝗢 P 𝗣 -> → <-> ↔ ~ ¬ ^ ∧ v ∨ v_ ⊻ <> ◇ [] ◻"
_FACES = (
    "happy 😀 smile ☺ smiley ☺ laugh 😆 lol 😆 rofl 🤣 joy 😂 heart ❤ love 😍 wink 😉 shush 🤫 meh 😐 eye-roll 🙄 "
    "sad 😢 disappointed 😞 scream 😱 think 🤔"
)
_VERDICTS = "? ❓ question ❓ +1 👍 up 👍 -1 👎 down 👎 star ⭐ y ✔ agree ✔ n ❌ disagree ❌"
_PAIRS = f"{_LOGIC} {_FACES} {_VERDICTS}".split()

_SIGNS = dict(zip(_PAIRS[::2], _PAIRS[1::2], strict=True))
SHORTCODES = {f"{mark}{name}{mark}": sign for name, sign in _SIGNS.items() for mark in ".:"}
"""The signs that the reference implementation has, by the text that they stand for."""
SHORTCODES[":smile:"] = "☺\N{VARIATION SELECTOR-16}"  # the reference gives another sign for `:smile:` than for `smile`


def with_own(settings: Mapping[str, object]) -> dict[str, str]:
    """Return the shortcodes of a map: the built-in ones, and those that its front matter defines or redefines.

    Args:
        settings: The front matter. Its `shortcodes:` under `model:` has a mapping `{unicode: "sign"}` for each code.
    """
    model = settings.get("model")
    own = model.get("shortcodes") if isinstance(model, dict) else None
    found = dict(SHORTCODES)
    for code, entry in own.items() if isinstance(own, dict) else ():
        if isinstance(entry, dict) and "unicode" in entry:
            found[code] = str(entry["unicode"])
    return found
