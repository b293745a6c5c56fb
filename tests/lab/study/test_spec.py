"""A study's file, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.resolve import resolve
from adapterlab.lab.study.load import load_study
from adapterlab.lab.study.sweep import Sweep
from adapterlab.models.loading import load_causal
from adapterlab.tasks.base import Part
from tests.tasks.user_files import completions, write

GOOD = """name = "mine"
tasks = ["prose"]
budget = 1000

[tuning]
growth = 5

[[contestants]]
adapter = "lora"

[[contestants]]
adapter = "oft"
settings = { block_size = 8 }
"""


def load(tmp_path: Path, text: str):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return load_study(path)


def test_a_study_reads_as_written(tmp_path):
    study = load(tmp_path, GOOD)
    assert [c.name for c in study.contestants] == ["lora", "oft"]
    assert study.contestants[1].build().block_size == 8
    assert study.tuning.growth == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('["prose"]', '["prosa"]', r"study\.toml:2: did you mean prose"),
        ('adapter = "lora"', 'adapter = "lorra"', r"unknown adapter 'lorra' in .*study\.toml:8: did you mean lora"),
        ("growth = 5", "grow = 5", r"unknown setting 'grow' in .*study\.toml:6: did you mean growth"),
        ("budget = 1000", "budget = -1", r"study\.toml:3: budget: .*greater than or equal to 1 \(got -1\)"),
        ("budget = 1000", "budgget = 1", r"unknown setting 'budgget' in .*study\.toml:3: did you mean budget"),
        (
            "block_size",
            "blocksize",
            r"study\.toml:11: unknown setting 'blocksize' in adapter 'oft': did you mean block_size",
        ),
        ("block_size = 8", 'block_size = "8"', r"block_size = '8' is not int"),
        ('adapter = "oft"', 'adapter = "lora"', "two contestants are called lora"),
        ("growth = 5", "seeds = [1, 2]", r"seeds \[1, 2\] are in both"),
        ("growth = 5", "regret_seeds = [101, 7]", r"seeds \[101\] of tuning\.regret_seeds are in"),
        ("growth = 5", "regret_seeds = [3, 7]", r"seeds \[3\] of tuning\.regret_seeds are in"),
        ("growth = 5", "regret_seeds = [7]", r"study\.toml:6: tuning\.regret_seeds: .*at least 2 items"),
        ("growth = 5", 'regret_contestants = ["dora"]', r"regret_contestants names dora, which the study lacks"),
        ("growth = 5", "first_rung = 0.25", r"study\.toml:6: tuning\.first_rung: .*greater than or equal to 0\.5"),
        ("growth = 5", "bracket = 4", r"study\.toml:6: tuning\.bracket: give an odd number"),
        ("growth = 5", "keep = 6", r"study\.toml:6: tuning\.keep: .*less than or equal to 5"),
        ("growth = 5", "first_steps = 2", r"unknown setting 'first_steps' in .*study\.toml:6: did you mean first_rung"),
        (
            "[tuning]",
            '[training]\ndtype = "bfloat16"\n\n[tuning]',
            r'study\.toml:6: dtype is now precision: write precision = "float32", or "bf16"',
        ),
        ("[tuning]", '[training]\nprecision = "fp8"\n\n[tuning]', r"study\.toml:6: training\.precision: .*'bf16'"),
        ("budget = 1000", "full_ft = false", "full_ft = false needs full_ft_reason"),
        ("budget = 1000", "full_tf = false", r"unknown setting 'full_tf' in .*study\.toml:3: did you mean full_ft"),
        ("budget = 1000", 'reference = "dora"', r"unknown contestant 'dora' in .*study\.toml:3"),
        ("name =", "name", "is not TOML"),
        ("budget = 1000", 'adapter_files = ["none.py"]', r"none\.py is not a Python file"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_mend(tmp_path, old, new, message):
    with pytest.raises(AdapterlabError, match=message):
        load(tmp_path, GOOD.replace(old, new))


def test_a_missing_study_is_named(tmp_path):
    with pytest.raises(AdapterlabError, match="cannot read the study"):
        load_study(tmp_path / "none.toml")


def test_a_study_at_several_budgets_is_one_at_each(tmp_path):
    study = load(tmp_path, GOOD.replace("budget = 1000", "") + "\n[sweep]\nbudgets = [1000, 2000]\n")
    assert [study.at(cell).budget for cell in study.sweep.cells] == [1000, 2000]
    assert {study.at(cell).sweep for cell in study.sweep.cells} == {Sweep()}
    alone = load(tmp_path, GOOD)
    assert [alone.at(cell) for cell in alone.sweep.cells] == [alone]


def test_full_fine_tuning_is_added_once_and_does_not_compete(tmp_path):
    study = load(tmp_path, GOOD)
    assert [c.name for c in study.entrants] == ["lora", "oft", "full_ft"]
    assert [study.competes(c.name) for c in study.entrants] == [True, True, False]
    listed = load(
        tmp_path,
        GOOD.replace('adapter = "lora"', 'adapter = "full_ft"\nlabel = "all"')
        + '\n[[contestants]]\nadapter = "lora"\n',
    )
    assert [c.name for c in listed.entrants] == ["all", "oft", "lora"]
    assert not listed.competes("all")


def test_full_fine_tuning_is_left_out_for_a_reason(tmp_path):
    study = load(tmp_path, GOOD.replace("budget = 1000", 'full_ft = false\nfull_ft_reason = "60 GB of memory"'))
    assert [c.name for c in study.entrants] == ["lora", "oft"]


OWN = """name = "own"
tasks = ["sums"]

[[data]]
name = "sums"
train = "sums.jsonl"

[[contestants]]
adapter = "lora"
"""


def test_a_study_names_data_beside_it(tmp_path, monkeypatch):
    write(tmp_path / "sums.jsonl", completions(30))
    monkeypatch.chdir("/")
    study = load(tmp_path, OWN)
    assert study.data[0].train == str(tmp_path / "sums.jsonl")
    resolved = resolve(study)
    assert len(resolved.tasks["sums"].examples(Part.TEST, load_causal().tokenizer, 64, 100)) == 6
    assert resolved.worker_config().data == (study.data[0].files,)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sums.jsonl", "none.jsonl", r"study\.toml:4: .*none\.jsonl does not exist"),
        ("train =", "trian =", r"unknown setting 'trian' in .*study\.toml:6: did you mean train"),
        ('adapter = "lora"', 'adapter = "lorra"', r"unknown adapter 'lorra' in .*study\.toml:8"),
        ('["sums"]', '["sum"]', r"unknown task 'sum' in .*study\.toml:2: did you mean sums"),
    ],
)
def test_a_mistake_in_its_data_is_named(tmp_path, old, new, message):
    write(tmp_path / "sums.jsonl", completions(30))
    with pytest.raises(AdapterlabError, match=message):
        load(tmp_path, OWN.replace(old, new))


def test_the_sample_for_the_regret_has_the_reference_and_others_drawn_by_the_studys_name(tmp_path):
    def sample(name: str = "mine", setting: str = "growth = 5") -> tuple[str, ...]:
        return load(tmp_path, GOOD.replace('"mine"', f'"{name}"').replace("growth = 5", setting)).regret_sample

    assert sample() == sample()
    assert {sample(name)[0] for name in "abcdefgh"} == {"lora"}
    assert {sample(name)[1] for name in "abcdefgh"} == {"oft", "full_ft"}
    assert sample(setting="regret_sample = 9") in (("lora", "oft", "full_ft"), ("lora", "full_ft", "oft"))
    assert sample(setting="regret_sample = 1") == ("lora",)
    assert sample(setting="regret_sample = 0") == ()
    assert sample(setting='regret_contestants = ["oft"]') == ("lora", "oft")


def test_the_first_rung_is_at_least_half_as_long_as_a_reported_run(tmp_path):
    tuning = load(tmp_path, GOOD).tuning
    assert [tuning.first_steps(steps) for steps in (1, 2, 5, 40)] == [1, 1, 3, 20]
    assert load(tmp_path, GOOD.replace("growth = 5", "first_rung = 1.0")).tuning.first_steps(40) == 40


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("ia3[/b]", r"holds '\['"),
        ("a/b", "holds '/'"),
        ("a\\\\b", r"holds '\\\\'"),
        (".hidden", "begins with a dot"),
        (" a", "begins or ends with a space"),
        ("a\\u001b[31m", r"control character '\\x1b'"),
        ("a\\u0007", r"control character '\\x07'"),
        ("a\\nb", r"control character '\\n'"),
        ("a\\u202eb", r"control character '\\u202e'"),
        ("x" * 81, "has 81 characters: give at most 80"),
        ("frozen", "is the name of the frozen model"),
        ("full_ft", "is the name of full fine-tuning"),
    ],
)
def test_a_label_that_could_deceive_is_refused(tmp_path, label, message):
    with pytest.raises(AdapterlabError, match=rf"study\.toml:\d+: .*{message}") as caught:
        load(tmp_path, GOOD.replace('adapter = "lora"', f'adapter = "lora"\nlabel = "{label}"', 1))
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("label", ["LoRA, rank 8", "<b>", "=cmd", "a & b", "größer", "模型", "peft:LORA"])
def test_other_labels_are_taken(tmp_path, label):
    study = load(tmp_path, GOOD.replace('adapter = "oft"', f'adapter = "oft"\nlabel = "{label}"'))
    assert study.contestants[1].name == label


def test_data_called_like_a_task_is_refused(tmp_path):
    write(tmp_path / "sums.jsonl", completions(30))
    for name, message in (("prose", "'prose' is a task already"), ("all", "a task cannot be called 'all'")):
        with pytest.raises(AdapterlabError, match=message):
            load(tmp_path, OWN.replace('"sums"', f'"{name}"'))
    again = '\n[[data]]\nname = "sums"\ntrain = "sums.jsonl"\n'
    with pytest.raises(AdapterlabError, match="data has 'sums' twice"):
        load(tmp_path, OWN + again)


HUGE = "9" * 400


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[report]\nseeds = []", r"report\.seeds: .*at least 1 item"),
        ("[report]\nseeds = [1, 1]", r"report\.seeds has 1 twice"),
        ("[report]\nseeds = [-1]", "greater than or equal to 0"),
        (f"[report]\nseeds = [{HUGE}]", "less than 9223372036854775808"),
        (f"[training]\nsteps = {HUGE}", "less than or equal to 9007199254740992"),
        (f"[training]\nsteps = {'9' * 5000}", "is not TOML"),
        ("[report]\nsmallest = inf", "finite number"),
        ("[report]\nsmallest = nan", "finite number|greater than 0"),
        ("[report]\nseeds = " + str(list(range(1000, 501_000))), "trials, more than 1,000,000"),
        ("training = 3", "valid dictionary"),
        ("sweep = 3", "valid dictionary"),
        ("[sweep]\nsteps = [1, 2]\n[[training]]", "valid dictionary"),
        ("x = " + "[" * 100_000, "nested too deeply|is not TOML"),
        ('adapter_files = ["a\\u0000b.py"]', "control character"),
        ('model = "a\\u0000b"', "control character"),
    ],
    ids=range(15),
)
def test_values_out_of_range_are_refused_in_one_line(tmp_path, text, message):
    head = GOOD.replace("[tuning]\ngrowth = 5\n", "") if not text.startswith("[") else GOOD
    whole = text + "\n" + head if not text.startswith("[") else head + "\n" + text
    with pytest.raises(AdapterlabError, match=message) as caught:
        load(tmp_path, whole)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("value", [HUGE, f"-{HUGE}", "1e308", "inf", "nan", "[1e300]"])
def test_settings_out_of_range_are_refused(tmp_path, value):
    with pytest.raises(AdapterlabError, match="above 2\\^53"):
        load(tmp_path, GOOD.replace("block_size = 8", f"block_size = {value}"))


def test_repeated_tasks_are_refused(tmp_path):
    with pytest.raises(AdapterlabError, match="tasks has 'prose' twice"):
        load(tmp_path, GOOD.replace('["prose"]', '["prose", "prose"]'))
    with pytest.raises(AdapterlabError, match="at least 1 item"):
        load(tmp_path, GOOD.replace('["prose"]', "[]"))
