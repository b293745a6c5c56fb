"""Rows of a user's files for tests: texts, completions, chats and labelled texts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def texts(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {"text": f"item {i} costs {i * 7} pounds and {i % 5} pence, they said"} for i in range(start, start + count)
    ]


def completions(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [{"prompt": f"{i} + {i + 3} = ", "completion": f"{2 * i + 3}"} for i in range(start, start + count)]


def chats(count: int) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"say {i}"},
                {"role": "assistant", "content": f"it is {i}"},
                {"role": "user", "content": "again"},
                {"role": "assistant", "content": f"{i} once more"},
            ]
        }
        for i in range(count)
    ]


def labelled(count: int) -> list[dict[str, Any]]:
    return [
        {"text": f"{'good' if i % 2 else 'bad'} film number {i}", "label": "up" if i % 2 else "down"}
        for i in range(count)
    ]


def write(path: Path, rows: Iterable[Any]) -> str:
    """Write rows to a JSONL file and return its path."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)
