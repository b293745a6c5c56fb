"""Files of a user's own: what they define is known, and nothing of what they should not define."""

from __future__ import annotations

import pytest

from adapterlab.adapters import adapter, all_adapters, load_file
from adapterlab.adapters.base import Adapter
from adapterlab.errors import AdapterlabError

MINE = """
from dataclasses import dataclass
from adapterlab.adapters.rank.lora import LoRA

@dataclass(frozen=True)
class Mine(LoRA):
    name = {name!r}
    rank: int = 3
"""


def written(folder, name, more=""):
    file = folder / f"{name}_file.py"
    file.write_text(MINE.format(name=name) + more)
    return file


def test_what_a_file_defines_is_known_and_a_second_reading_changes_nothing(tmp_path):
    load_file(written(tmp_path, "mine"))
    first = Adapter.registry["mine"]
    load_file(tmp_path / "mine_file.py")
    assert adapter("mine").rank == 3
    assert Adapter.registry["mine"] is first


@pytest.mark.parametrize(
    ("name", "more", "says"),
    [
        ("lora", "", r"lora_file.py defines 'lora', as .*rank/lora.py does: give it another name"),
        ("other", "1 / 0", "cannot be run: ZeroDivisionError: division by zero"),
        ("", "", "defines no adapter: subclass LinearAdapter and set its name"),
    ],
)
def test_a_bad_file_is_named_and_leaves_what_is_known_alone(tmp_path, name, more, says):
    before = all_adapters()
    with pytest.raises(AdapterlabError, match=says):
        load_file(written(tmp_path, name, more))
    assert all_adapters() == before


def test_two_files_cannot_define_the_same_name(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    load_file(written(tmp_path / "a", "mine"))
    with pytest.raises(AdapterlabError, match=r"a/mine_file\.py does"):
        load_file(written(tmp_path / "b", "mine"))
