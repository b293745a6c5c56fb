"""Argdown's names for signs: `.E.` or `:E:` is written where the text shows a quantifier."""

SHORTCODES = {
    "A": "∀",
    "E": "∃",
    "O": "\N{MATHEMATICAL SANS-SERIF BOLD CAPITAL O}",
    "P": "\N{MATHEMATICAL SANS-SERIF BOLD CAPITAL P}",
    "->": "→",
    "<->": "↔",
    "~": "¬",
    "^": "∧",
    "v": "∨",
    "v_": "⊻",
    "<>": "◇",
    "[]": "◻",
}
"""The logical signs; the reference also knows some thirty faces, which stay as they are written here."""
