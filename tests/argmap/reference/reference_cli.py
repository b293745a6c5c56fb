"""The reference implementation, run on many texts at once."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
VERSION = "1.7.5"


def binary() -> Path | None:
    """Return the installed command, or None."""
    command = HERE / "node_modules" / ".bin" / "argdown"
    return command if command.exists() and shutil.which("node") else None


def install() -> None:
    """Install the reference beside this file (needs npm and a registry)."""
    command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
    subprocess.run(command, cwd=HERE, check=True)


def export(texts: dict[str, str]) -> dict[str, dict[str, Any] | None]:
    """Return the JSON export of the reference for each text; None for a text that it rejects."""
    command = binary()
    if command is None:
        raise FileNotFoundError(
            "the reference is not installed: run python -m tests.argmap.reference.regenerate --install"
        )
    with tempfile.TemporaryDirectory() as folder:
        into, out = Path(folder, "in"), Path(folder, "out")
        into.mkdir()
        for name, text in texts.items():
            (into / f"{name}.argdown").write_bytes(text.encode())
        subprocess.run(
            [str(command), "json", f"{into}/*.argdown", str(out)],
            cwd=folder,
            capture_output=True,
            check=False,
            timeout=300,
        )
        found = {name: out / f"{name}.json" for name in texts}
        return {name: json.loads(path.read_text()) if path.exists() else None for name, path in found.items()}


def export_file(path: Path) -> dict[str, Any] | None:
    """Return the JSON export of the reference for a file; None if it rejects it."""
    with tempfile.TemporaryDirectory() as out:
        command = [str(binary()), "json", str(path), out]
        subprocess.run(command, cwd=path.parent, capture_output=True, check=False, timeout=60)
        exported = Path(out, f"{path.stem}.json")
        return json.loads(exported.read_text()) if exported.exists() else None


_SHOWN_TEXTS = """
const { argdown } = require("@argdown/node");
const input = require("fs").readFileSync(0, "utf8");
const response = argdown.run({ input, process: ["parse-input", "build-model", "build-map"], logLevel: "silent" });
const nodes = [];
const visit = node => { node.children ? node.children.forEach(visit) : nodes.push([node.title, node.labelText]); };
response.map.nodes.forEach(visit);
console.log(JSON.stringify(Object.fromEntries(nodes)));
"""


def shown_texts(text: str) -> dict[str, str]:
    """Return the text that the reference shows in the map for each claim and argument, by title."""
    command = ["node", "-e", _SHOWN_TEXTS]
    shown = subprocess.run(command, cwd=HERE, input=text, capture_output=True, text=True, check=True, timeout=60)
    found: dict[str, str] = json.loads(shown.stdout)
    return found
