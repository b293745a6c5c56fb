"""Argdown's shortcodes: `.E.` or `:E:` in a source stands for the sign ∃.

>>> SHORTCODES["E"], SHORTCODES["->"]
('∃', '→')
"""

_LOGIC = "A ∀ E ∃ O 𝗢 P 𝗣 -> → <-> ↔ ~ ¬ ^ ∧ v ∨ v_ ⊻ <> ◇ [] ◻"
_FACES = (
    "happy 😀 smile ☺ smiley ☺ laugh 😆 lol 😆 rofl 🤣 joy 😂 heart ❤ love 😍 wink 😉 shush 🤫 meh 😐 eye-roll 🙄 "
    "sad 😢 disappointed 😞 scream 😱 think 🤔"
)
_VERDICTS = "? ❓ question ❓ +1 👍 up 👍 -1 👎 down 👎 star ⭐ y ✔ agree ✔ n ❌ disagree ❌"
_PAIRS = f"{_LOGIC} {_FACES} {_VERDICTS}".split()

SHORTCODES = dict(zip(_PAIRS[::2], _PAIRS[1::2], strict=True))
"""The signs that the reference implementation has, by name."""
SHORTCODES[":smile:"] = "☺\N{VARIATION SELECTOR-16}"  # the reference gives another sign for `:smile:` than for `smile`
