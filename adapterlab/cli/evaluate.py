"""The command that evaluates a model with its adapter on tasks of lm-eval: evaluate.

>>> from typer.testing import CliRunner
>>> from adapterlab.cli import app
>>> "lm-eval" in CliRunner().invoke(app, ["evaluate", "--help"]).stdout
True
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    folder: Annotated[
        str,
        typer.Argument(help="Results of tune or run, a saved adapter, or a model.", show_default=False),
    ],
    tasks: Annotated[str, typer.Option(help="Tasks of lm-eval, separated by commas.")],
    include_path: Annotated[Path | None, typer.Option(help="Folder with tasks of your own, as YAML files.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Base model of a saved adapter: a folder or a hub id; the study's if not given.")
    ] = None,
    contestant: Annotated[
        str | None,
        typer.Option(help="Contestant of a study, trained again for this; the saved winner if not given."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Documents of each task, at most.")] = None,
    shots: Annotated[
        int | None, typer.Option(min=0, help="Examples in the prompt; those of each task if not given.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows in a forward pass.")] = 8,
    chat: Annotated[bool, typer.Option("--chat", help="Render prompts with the chat template.")] = False,
    out: Annotated[Path | None, typer.Option(help="File of the results; FOLDER/lm-eval.json if not given.")] = None,
    trust: Annotated[
        bool, typer.Option("--trust", help="Run the Python files in --include-path, from now on.")
    ] = False,
) -> None:
    """Evaluate a model with its adapter on tasks of lm-eval (needs the extra lm-eval)."""
    from adapterlab import harness
    from adapterlab.names import printable

    target = out or (Path(folder) / harness.RESULT if Path(folder).is_dir() else None)
    results = harness.evaluate(
        folder,
        [name.strip() for name in tasks.split(",") if name.strip()],
        model=model,
        contestant=contestant,
        include_path=include_path,
        limit=limit,
        shots=shots,
        batch_size=batch,
        chat=chat,
        out=target,
        trust=trust,
    )
    print(printable(f"{results['config']['model']}\n{harness.as_table(results)}"))
    if target is not None:
        print(printable(f"The results: {target}"))
