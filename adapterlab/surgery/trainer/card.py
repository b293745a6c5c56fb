"""The model card of an adapter: `README.md` with the method, its settings, the base, the size and the scores.

>>> from torch import nn
>>> from adapterlab import adapter, attach
>>> print(model_card(attach(nn.Sequential(nn.Linear(4, 4)), adapter("lora", rank=2))).splitlines()[7])
# lora adapter
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from adapterlab.surgery.handle import Handle

LIBRARY = "library_name: adapterlab"
"""Line of the front matter by which a card of this module is recognized."""


def write_card(handle: Handle, folder: Path) -> None:
    """Write the model card, unless the folder holds a `README.md` that this module did not write.

    Args:
        handle: The adapter.
        folder: An existing folder.
    """
    file = folder / "README.md"
    if not file.exists() or LIBRARY in file.read_text(encoding="utf-8"):
        file.write_text(model_card(handle), encoding="utf-8")


def announce_card(folder: Path) -> None:
    """Write a placeholder that makes Trainer call `create_or_update_model_card` of the model after it wrote its own card.

    Trainer does so in `push_to_hub` alone, and for cards of PEFT alone.

    Args:
        folder: An existing folder.
    """
    (folder / "README.md").write_text("---\nlibrary_name: peft\n---\n", encoding="utf-8")


def extend_card(handle: Handle, folder: Path) -> None:
    """Write the model card, followed by the text of the card that Trainer wrote there.

    Args:
        handle: The adapter.
        folder: A folder with a `README.md`.
    """
    file = folder / "README.md"
    text = re.sub(r"\A---\n.*?\n---\n", "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    file.write_text(f"{model_card(handle)}\n{text.strip()}\n", encoding="utf-8")


def model_card(handle: Handle) -> str:
    """Return the model card of an adapter in Markdown, with front matter for the hub.

    Args:
        handle: The attached adapter. Its `scores` are listed if there are any.
    """
    base, on_hub = _base(handle)
    settings = {key: value for key, value in handle.adapter.settings().items() if key != "name"}
    rows = {
        "method": f"[{handle.adapter.title or handle.adapter.name}]({handle.adapter.paper})",
        "base": base or "a model in memory, without a name",
        "adapted": str(handle.where),
        "trained parameters": f"{handle.parameter_count:,}",
        **{f"`{key}`": f"`{json.dumps(value)}`" for key, value in settings.items()},
    }
    if whole := [*handle.new_heads, *handle.trained_too]:
        rows["trained beside it"] = ", ".join(f"`{path}`" for path in whole)
    base_line = [f"base_model: {base}"] if on_hub else []
    front = ["---", LIBRARY, *base_line, "tags:", "- adapterlab", f"- {handle.adapter.name}"]
    parts = [
        "\n".join([*front, "---"]),
        f"# {handle.adapter.name} adapter{f' for {base}' if base else ''}",
        _table("setting", "value", rows),
        f"```python\nimport adapterlab\n\nhandle = adapterlab.load(model, folder)  # model: {base or 'the base'}\n```",
    ]
    if handle.scores:
        parts.append("## Scores\n\n" + _table("score", "value", {k: f"{v:.4g}" for k, v in handle.scores.items()}))
    return "\n\n".join(parts) + "\n"


def _table(left: str, right: str, rows: dict[str, str]) -> str:
    return "\n".join([f"| {left} | {right} |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())])


def _base(handle: Handle) -> tuple[str, bool]:
    """Return the name of the base, and True if it is an id on the hub; of a local folder only the last part."""
    name = str(getattr(getattr(handle.model, "config", None), "_name_or_path", "") or "")
    local = Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") > 1
    return (Path(name).name, False) if name and local else (name, bool(name))
