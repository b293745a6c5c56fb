"""Run the authors' package and store what it says: `python -m tests.adapters.oracles.reft_authors.regenerate`.

The package wants another transformers, so it lives in an environment of its own; `--install` only makes that, which lets the
test hold what is stored against it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STORED = HERE / "stored.json"
ENVIRONMENT = Path(os.environ.get("PYREFT_ENVIRONMENT") or Path.home() / ".cache" / "adapterlab-tests" / "pyreft-0.1.0")
PYTHON = ENVIRONMENT / "bin" / "python"
# What its modules import; its own list also names notebooks, plots and experiment trackers.
PINNED = ["pyreft==0.1.0", "pyvene==0.1.8"]
NEEDED = ["torch", "transformers==4.45.1", "datasets", "accelerate", "matplotlib", "pandas"]


def install() -> None:
    """Make the environment (needs a package index)."""
    venv.create(ENVIRONMENT, with_pip=True, clear=True)
    for packages in (NEEDED, ["--no-deps", *PINNED]):
        subprocess.run([str(PYTHON), "-m", "pip", "install", "-q", *packages], check=True)


def run() -> dict[str, Any]:
    """What the authors' package gives."""
    options: Any = {"check": True, "stdout": subprocess.PIPE, "text": True, "timeout": 300}
    printed = subprocess.run([str(PYTHON), str(HERE / "figures.py")], **options).stdout
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])  # their imports print too
    return found


def main() -> None:
    """Write `stored.json`."""
    if not PYTHON.exists():
        install()
    if "--install" not in sys.argv:
        lines = [f"{json.dumps(part)}: {json.dumps(found)}" for part, found in run().items()]
        STORED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
