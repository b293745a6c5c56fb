"""The methods, one file each, in folders named after the themes of the argument map.

>>> "lora" in all_adapters()
True
>>> adapter("lora", rank=4).title
'Low-rank adaptation'
"""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from functools import cache
from pathlib import Path

from adapterlab.adapters.base import Adapter, Theme
from adapterlab.adapters.context import Context
from adapterlab.adapters.linear import LinearAdapter
from adapterlab.adapters.peft_config import PREFIX
from adapterlab.adapters.peft_method import make_peft_adapter, peft_method
from adapterlab.adapters.state import State
from adapterlab.errors import AdapterlabError, UnknownNameError
from adapterlab.user_code import load_module

LARGEST = 2**53
"""Largest number that a setting can have."""
__all__ = ["Adapter", "Context", "LinearAdapter", "State", "Theme", "adapter", "all_adapters", "load_file", "method"]


@cache
def _import_methods() -> None:
    for theme in pkgutil.iter_modules(__path__):
        if theme.ispkg:
            package = importlib.import_module(f"{__name__}.{theme.name}")
            for method in pkgutil.iter_modules(package.__path__):
                importlib.import_module(f"{package.__name__}.{method.name}")


def all_adapters() -> dict[str, type[Adapter]]:
    """Return every known method by name, in alphabetical order: those of this package, and those defined since."""
    _import_methods()
    return dict(sorted(Adapter.registry.items()))


def method(name: str, where: str = "") -> type[Adapter]:
    """Return the class of a method: a known one, or one of PEFT's (`peft:HIRA`).

    Args:
        name: Name of the method.
        where: File or option in which the name was given, for the error message.

    Raises:
        UnknownNameError: If there is no such method; the message has the nearest names.
        AdapterlabError: If PEFT is not installed, or cannot inject the method into a model.
    """
    if name.startswith(PREFIX):
        return peft_method(name, where)
    known = all_adapters()
    if name not in known:
        raise UnknownNameError("adapter", name, known, where)
    return known[name]


def is_known(name: str) -> bool:
    """Return True if there is a method with this name, here or in PEFT (`peft:HIRA`).

    Args:
        name: Name of the method.
    """
    return name.startswith(PREFIX) or name in all_adapters()


def load_file(path: Path) -> None:
    """Run a Python file that defines methods, so that they can be used by name. A file is run only once.

    Args:
        path: The file.

    Raises:
        AdapterlabError: If the file does not exist, cannot be run, or defines no method.
    """
    _import_methods()
    load_module(path, Adapter.registry, "adapter: subclass LinearAdapter and set its name")


def adapter(name: str, **settings: object) -> Adapter:
    """Return a method with the given hyperparameters, such as `adapter("hra", rank=8)`.

    Args:
        name: Name of the method; `peft:` and PEFT's name for one of PEFT's, such as `peft:HIRA`.
        **settings: Hyperparameters by name; the others keep their defaults. A list is converted if a tuple is expected,
                an integer if a float is.

    Raises:
        UnknownNameError: If there is no such method or hyperparameter; the message has the nearest names.
        AdapterlabError: If a value has the wrong type.
    """
    if name.startswith(PREFIX):
        return make_peft_adapter(name, settings)
    kind = method(name)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    for key, value in settings.items():
        if key not in fields:
            raise UnknownNameError("setting", key, fields, where=f"adapter {name!r}")
        default = fields[key].default
        if isinstance(default, tuple) and isinstance(value, list):
            value = settings[key] = tuple(value)  # JSON and TOML have no tuples
        if not _in_range(value):
            raise AdapterlabError(
                f"adapter {name!r}: {key} is infinite, not a number or above 2^53: give a smaller one"
            )
        number = isinstance(default, int | float) and not isinstance(default, bool)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = settings[key] = float(value)
        fits = isinstance(value, type(default))
        if (isinstance(value, bool) and number) or (default is not None and not fits):
            raise AdapterlabError(
                f"adapter {name!r}: {key} = {value!r} is not {type(default).__name__} (default: {default!r})"
            )
    return kind(**settings)


def _in_range(value: object) -> bool:
    """Return False for a number, or a collection with a number, that is not finite or larger than any setting can be."""
    if isinstance(value, list | tuple):
        return all(map(_in_range, value))
    return not isinstance(value, int | float) or abs(value) <= LARGEST
