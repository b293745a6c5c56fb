"""The examples in the docstrings of the tools that make the pages."""

import doctest
import importlib
import pkgutil

import pytest

import tools.pages

MODULES = [module.name for module in pkgutil.iter_modules(tools.pages.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name):
    assert doctest.testmod(importlib.import_module(f"tools.pages.{name}")).failed == 0


def test_there_are_examples():
    found = [doctest.testmod(importlib.import_module(f"tools.pages.{name}")).attempted for name in MODULES]
    assert sum(found) >= 8
