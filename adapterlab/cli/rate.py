"""The command that predicts a learning rate: rate.

>>> from typer.testing import CliRunner
>>> from adapterlab.cli import app
>>> options = ["--method", "hro", "--model", "embedded", "--train", "rows.jsonl"]
>>> str(CliRunner().invoke(app, ["rate", *options]).exception)
"unknown adapter 'hro': did you mean hra, road, hira?"
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def rate(
    method: Annotated[str, typer.Option(help="Name of the adapter, as `adapterlab adapters` lists it.")],
    model: Annotated[str, typer.Option(help="Base model: a folder or a hub id; safetensors only.")],
    train: Annotated[Path, typer.Option(help="Training rows: JSONL, CSV, Parquet, or a folder.")],
    steps: Annotated[int, typer.Option(min=1, help="Training steps that the rate is for.")] = 60,
    rank: Annotated[int | None, typer.Option(min=1, help="Rank of the adapter; its default if not given.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Examples in a training step.")] = 8,
    length: Annotated[
        int | None, typer.Option(min=8, help="Tokens in an example, at most; chosen by the data if not given.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Predict the learning rate of one adapter on your model and data; nothing is trained."""
    import json

    from adapterlab import api
    from adapterlab.names import printable
    from adapterlab.tuning.rate import in_words

    found = api.predict_rate(method, model, train, steps=steps, rank=rank, batch=batch, length=length)
    print(json.dumps(found.to_json(), indent=1) if as_json else printable(in_words(found)))
