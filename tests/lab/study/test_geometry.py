"""The `[geometry]` table of a study is checked when the study is loaded."""

from __future__ import annotations

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.geometry.hypotheses import all_hypotheses
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.as_toml import as_toml
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.spec import Study

STUDY = """name = "mine"
tasks = ["prose"]
budget = 20_000

[[contestants]]
adapter = "lora"

[[contestants]]
adapter = "reft"

[geometry]
"""


@pytest.fixture
def loaded(tmp_path):
    """Loads the study with these lines in its `[geometry]`."""

    def load(lines: str, before: str = STUDY) -> Study:
        (tmp_path / "study.toml").write_text(before + lines)
        return load_study(tmp_path / "study.toml")

    return load


def test_the_table_is_read(loaded):
    study = loaded('of = ["full_ft", "lora"]\nhypotheses = ["low_rank"]\nmeasures = ["stable_rank"]\ndraws = 5')
    assert study.geometry.of == ("full_ft", "lora")
    assert study.geometry.spec(study.budget) == {
        "hypotheses": ["low_rank"], "measures": ["stable_rank"], "budget": 20_000, "draws": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "line", "said"),
    [
        (
            'of = ["dora"]',
            12,
            "geometry.of names 'dora', which is no contestant of the study: give lora or reft or full_ft",
        ),
        ('of = ["lora"]\nhypotheses = ["low_rnk"]', 13, "geometry.hypotheses names 'low_rnk', which does not exist"),
        (
            'of = ["lora"]\nmeasures = ["stable_rnk"]',
            13,
            "geometry.measures names a measure that does not exist: unknown measure 'stable_rnk'",
        ),
        ('of = ["lora", "reft"]', 12, "'reft', which changes no weight of a linear layer and so has no geometry"),
        ('of = ["lora"]\ndraws = 1', 13, "geometry.draws"),
        ('of = ["lora"]\nk = 1', 13, "unknown setting 'k'"),
        ('of = ["lora", "lora"]', 12, "'lora' twice"),
        ("of = []", 12, "geometry.of"),
    ],
)
def test_a_mistake_is_named_in_one_line_with_its_place(loaded, lines, line, said):
    with pytest.raises(AdapterlabError) as caught:
        loaded(lines)
    message = str(caught.value)
    assert f"study.toml:{line}: " in message
    assert said in message
    assert "\n" not in message


def test_projections_need_a_budget(loaded):
    before = STUDY.replace("budget = 20_000\n", "")
    with pytest.raises(AdapterlabError, match=r"give geometry\.budget"):
        loaded('of = ["lora"]', before)
    assert loaded('of = ["lora"]\nbudget = 500', before).geometry.spec(None)["budget"] == 500


def test_a_divided_model_is_refused(loaded):
    with pytest.raises(AdapterlabError, match=r"limits\.shard = 1"):
        loaded('of = ["lora"]\n[limits]\nshard = 2')
    with pytest.raises(AdapterlabError, match=r"limits\.shard = 1"):
        loaded('of = ["lora"]').limited(shard=2)


def test_a_study_made_in_python_is_checked_when_it_is_resolved():
    study = Study(
        name="mine", tasks=("prose",), budget=1000, contestants=({"adapter": "lora"},), geometry={"of": ("oft",)}
    )
    with pytest.raises(AdapterlabError, match=r"^geometry\.of names 'oft'"):
        resolve(study)


def test_the_table_survives_being_written(loaded, tmp_path):
    study = loaded('of = ["lora"]\ndraws = 7')
    (tmp_path / "again.toml").write_text(as_toml(study))
    assert load_study(tmp_path / "again.toml").geometry == study.geometry


def test_every_hypothesis_can_be_named(loaded):
    names = ", ".join(f'"{name}"' for name in all_hypotheses())
    assert loaded(f'of = ["lora"]\nhypotheses = [{names}]').geometry.hypotheses == tuple(all_hypotheses())
