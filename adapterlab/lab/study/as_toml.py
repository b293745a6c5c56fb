"""A study as the text of a TOML file.

>>> study = Study(name="mine", tasks=("prose",), contestants=({"adapter": "lora", "settings": {"rank": 4}},), full_ft=False,
...     full_ft_reason="not needed")
>>> print(as_toml(study))
name = "mine"
tasks = ["prose"]
full_ft = false
full_ft_reason = "not needed"
<BLANKLINE>
[[contestants]]
adapter = "lora"
settings = { rank = 4 }
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from adapterlab.lab.study.spec import Study


def as_toml(study: Study) -> str:
    """Return a study as TOML, without what has its default.

    Args:
        study: The study.
    """
    data = study.model_dump(mode="json", exclude_defaults=True)
    tables = {key: value for key, value in data.items() if isinstance(value, Mapping)}
    entries = {key: value for key, value in data.items() if _is_list_of_tables(value)}
    plain = {key: value for key, value in data.items() if key not in tables and key not in entries}
    blocks = [_lines(plain)]
    blocks += [f"[{key}]\n{_lines(value)}" for key, value in tables.items()]
    blocks += [f"[[{key}]]\n{_lines(item)}" for key, value in entries.items() for item in value]
    return "\n\n".join(blocks)


def _is_list_of_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _lines(table: Mapping[str, Any]) -> str:
    return "\n".join(f"{key} = {_value(value)}" for key, value in table.items())


def _value(value: Any) -> str:
    """Return a value in TOML; strings, numbers and lists are written as in JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def _key(key: str) -> str:
    """Return a key of a table, quoted if it holds more than letters, digits and dashes."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key, ensure_ascii=False)
