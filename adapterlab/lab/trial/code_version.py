"""A hash of the code that decides a trial's outcome."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import pkgutil
from functools import cache

from adapterlab import surgery
from adapterlab.adapters import all_adapters
from adapterlab.adapters import base as adapters_base
from adapterlab.lab.trial import spec, train
from adapterlab.lab.trial.spec import FROZEN
from adapterlab.tasks.base import Task


@cache
def code_version(adapter: str, task: Task) -> str:
    """A hash of the code that decides a trial's outcome; comments and docstrings do not count."""
    decisive = [spec.__name__, train.__name__, adapters_base.__name__]
    decisive += task.sources
    decisive += [
        module.name for module in pkgutil.walk_packages(surgery.__path__, f"{surgery.__name__}.") if not module.ispkg
    ]
    if adapter != FROZEN:
        decisive.append(all_adapters()[adapter].__module__)
    digest = hashlib.blake2b(digest_size=6)
    for module in dict.fromkeys(decisive):
        digest.update(_meaning(inspect.getsource(importlib.import_module(module))).encode())
    return digest.hexdigest()


@cache
def _meaning(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            kept = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return ast.unparse(tree)
