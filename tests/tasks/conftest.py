"""A tiny WordNet for all tests of tasks, whether Debian's is installed or not, and fewer files with docstrings."""

from __future__ import annotations

import os

import pytest

from adapterlab.tasks import docstrings
from tests.tasks.wordnet import write_wordnet


@pytest.fixture(scope="session", autouse=True)
def wordnet(tmp_path_factory):
    folder = write_wordnet(tmp_path_factory.mktemp("wordnet"))
    before = os.environ.get("WNSEARCHDIR")
    os.environ["WNSEARCHDIR"] = str(folder)
    yield folder
    if before is None:
        del os.environ["WNSEARCHDIR"]
    else:
        os.environ["WNSEARCHDIR"] = before


@pytest.fixture(scope="session", autouse=True)
def few_docstrings():
    """Reading all files takes seconds."""
    before = docstrings.FILES, docstrings.OTHER_FILES
    docstrings.FILES, docstrings.OTHER_FILES = 60, 40
    docstrings._pairs.cache_clear()
    yield
    docstrings.FILES, docstrings.OTHER_FILES = before
    docstrings._pairs.cache_clear()
