"""Argdown's names for signs: `.E.` or `:E:` is written where the text shows a quantifier."""

_LOGIC = "A ∀ E ∃ O 𝗢 P 𝗣 -> → <-> ↔ ~ ¬ ^ ∧ v ∨ v_ ⊻ <> ◇ [] ◻"
_FACES = (
    "happy 😀 smile ☺ smiley ☺ laugh 😆 lol 😆 rofl 🤣 joy 😂 heart ❤ love 😍 wink 😉 shush 🤫 meh 😐 eye-roll 🙄 "
    "sad 😢 disappointed 😞 scream 😱 think 🤔"
)
_VERDICTS = "? ❓ question ❓ +1 👍 up 👍 -1 👎 down 👎 star ⭐ y ✔ agree ✔ n ❌ disagree ❌"
_PAIRS = f"{_LOGIC} {_FACES} {_VERDICTS}".split()

SHORTCODES = dict(zip(_PAIRS[::2], _PAIRS[1::2], strict=True))
"""The signs that the reference implementation knows, by name."""
SHORTCODES[":smile:"] = "☺\N{VARIATION SELECTOR-16}"  # there, the two spellings of this one differ
