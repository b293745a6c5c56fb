"""The command and its function: from names to a summary, a file, and one line for each mistake."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

import adapterlab
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.geometry.change import InMemory
from adapterlab.geometry.result_file import read_result
from adapterlab.harness import Target
from adapterlab.harness import geometry as home
from adapterlab.models.loading import load
from tests.conftest import tiny_llama
from tests.geometry.checkpoints import edit, save_pair

QUERY = "model.layers.0.self_attn.q_proj"
FEW = ("--hypotheses", "lora,ia3", "--measures", "stable_rank", "--draws", "2", "--budget", "500,2000")
SCORED = {"hypotheses": ["lora", "ia3"], "measures": [], "draws": 2, "budgets": [300, 2000]}


@pytest.fixture
def pair(tmp_path):
    return save_pair(tmp_path)


@pytest.fixture(scope="module")
def scored_pair(tmp_path_factory):
    """A pair with the embedded model's tokenizer, so that tasks can be scored."""
    tokenizer = load("embedded").tokenizer
    pair = save_pair(tmp_path_factory.mktemp("scored"), tiny_llama(vocab_size=len(tokenizer)))
    for folder in pair:
        tokenizer.save_pretrained(folder)
    return pair


def run(*options: object) -> str:
    result = CliRunner().invoke(app, ["geometry", *map(str, options)])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_pair_is_measured_summed_up_and_written(pair, tmp_path):
    base, tuned = pair
    output = run(tuned, "--base", base, *FEW, "--out", tmp_path / "out")
    assert all(len(line) <= 80 or str(tmp_path) in line for line in output.splitlines())
    assert "low rank" in output.lower()
    written = json.loads((tmp_path / "out" / "geometry.json").read_text(), parse_constant=pytest.fail)
    assert [layer["path"] for layer in written["layers"]] == [QUERY, "model.layers.0.mlp.up_proj"]
    assert {each["hypothesis"] for each in written["projections"]} == {"low_rank", "gain"}
    found = read_result(tmp_path / "out" / "geometry.json")
    # Planted: rank 2 in a 32 x 32 and a 48 x 32 weight, which have 64 and 80 parameters for each rank.
    low_rank = {each.parameters: each.residual for each in found.projections if each.hypothesis == "low_rank"}
    assert low_rank[432] < 1e-6


def test_json_is_the_written_result(pair, tmp_path):
    base, tuned = pair
    output = CliRunner().invoke(
        app, ["geometry", str(tuned), "--base", str(base), *FEW, "--out", str(tmp_path / "o"), "--json"]
    )
    assert json.loads(output.stdout) == json.loads((tmp_path / "o" / "geometry.json").read_text())


def test_a_page_and_a_picture_are_written(pair, tmp_path, monkeypatch):
    base, tuned = pair
    written = {}
    for name in ("write_html", "save_plot"):  # which take seconds, and have tests of their own
        monkeypatch.setattr(
            f"adapterlab.report.geometry.{name}", lambda result, path, name=name: written.update({name: path})
        )
    page, picture = tmp_path / "page.html", tmp_path / "picture.svg"
    output = run(tuned, "--base", base, *FEW, "--out", tmp_path / "out", "--html", page, "--plot", picture)
    assert written == {"write_html": page, "save_plot": picture}
    assert str(page) in output


@pytest.fixture(scope="module")
def scored(scored_pair):
    base, tuned = scored_pair
    return adapterlab.geometry_of(tuned, base, task="prose", **SCORED)


def test_projections_are_scored_on_a_task(scored):
    assert set(scored.scores) == {"in_domain", "ood", "general"}
    # The larger projection on low rank is the full change, whose rank is 2, so that its losses are the full change's.
    projection = [each for each in scored.projections if each.hypothesis == "low_rank"][-1]
    assert projection.residual < 1e-6
    assert {part: each.loss for part, each in projection.scores.items()} == pytest.approx(
        {part: full for part, (_, full) in scored.scores.items()}, rel=1e-5
    )
    assert (scored.task, scored.unit) == ("prose", "nats per byte")


def test_projections_are_scored_on_texts_of_the_user(scored_pair, tmp_path):
    base, tuned = scored_pair
    texts = tmp_path / "mine.jsonl"
    texts.write_text(
        "".join(json.dumps({"text": f"Row {i} is about number {i}, and its square {i * i}."}) + "\n" for i in range(40))
    )
    result = adapterlab.geometry_of(tuned, base, texts=texts, hypotheses=["lora"], measures=[], draws=2, budgets=[2000])
    assert (result.task, set(result.scores)) == ("mine", {"in_domain", "general"})


def test_the_order_of_work_with_and_without_a_task_gives_the_same_residuals(scored, scored_pair):
    base, tuned = scored_pair
    plain = adapterlab.geometry_of(tuned, base, **SCORED)
    for one, other in zip(scored.projections, plain.projections, strict=True):
        assert (one.hypothesis, one.size, one.parameters) == (other.hypothesis, other.size, other.parameters)
        assert one.residual == pytest.approx(other.residual, abs=1e-9)


def test_a_second_run_takes_all_from_the_first(pair, tmp_path, monkeypatch):
    from adapterlab.geometry import run as streamed

    base, tuned = pair
    run(tuned, "--base", base, *FEW, "--out", tmp_path / "out")
    first = (tmp_path / "out" / "geometry.json").read_bytes()

    def measured(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr(streamed, "measure_layer", measured)
    monkeypatch.setattr("adapterlab.geometry.residuals.project", measured)
    run(tuned, "--base", base, *FEW, "--out", tmp_path / "out")
    assert (tmp_path / "out" / "geometry.json").read_bytes() == first
    with pytest.raises(AssertionError, match="measured again"):
        run(tuned, "--base", base, *FEW, "--seed", "1", "--out", tmp_path / "out")


def test_the_result_of_another_change_is_not_overwritten(pair, tmp_path):
    base, tuned = pair
    run(tuned, "--base", base, *FEW, "--out", tmp_path / "out")
    tuned.rename(tmp_path / "other")
    with pytest.raises(AdapterlabError, match=r"is the geometry of .*tuned from .*base: give another --out"):
        run(tmp_path / "other", "--base", base, *FEW, "--out", tmp_path / "out")


def test_bad_input_leaves_nothing_behind(pair, tmp_path):
    base, tuned = pair
    edit(tuned, model__layers__1__mlp__down_proj__weight=torch.full((32, 48), float("nan")))
    with pytest.raises(AdapterlabError, match="holds NaN"):
        run(tuned, "--base", base, *FEW, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_contestant_is_trained_again_and_measured(tmp_path, monkeypatch):
    model = load("embedded").model
    with torch.no_grad():
        model.get_submodule(QUERY).weight[0, 0] += 1
    model.save_pretrained(tmp_path / "trained")
    asked = []

    def find_target(*names):
        asked.append(names)
        return Target("embedded", tmp_path / "trained")

    monkeypatch.setattr(home, "find_target", find_target)
    settings = {"hypotheses": ["lora"], "measures": [], "draws": 2}
    result = adapterlab.geometry_of("runs/some", contestant="full_ft", **settings)
    assert asked == [("runs/some", None, "full_ft")]
    assert [layer.path for layer in result.layers] == [QUERY]
    assert result.projections[0].residual < 1e-9


def test_a_folder_of_no_results_has_no_contestant(pair):
    base, tuned = pair
    with pytest.raises(AdapterlabError, match="is not a folder of results, so it has no contestant lora"):
        run(tuned, "--base", base, "--contestant", "lora")


def test_a_change_in_memory_is_measured_too():
    base = torch.zeros(8, 8)
    result = adapterlab.geometry_of(
        InMemory({"up": (base, base + 1)}), hypotheses=["lora"], measures=[], draws=2, budgets=[16]
    )
    assert result.projections[0].residual < 1e-9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--budget", "10,many"), "--budget '10,many': give numbers of parameters"),
        (("--plot", "picture.pdf"), "--plot picture.pdf: give a file that ends with .png or .svg"),
        (("--hypotheses", "lorra"), "unknown hypothesis 'lorra'"),
        (("--measures", "stable_rnk"), "unknown measure 'stable_rnk'"),
        (("--task", "porse"), "unknown task 'porse': did you mean prose"),
        (("--texts", "nowhere.jsonl"), "there is no nowhere.jsonl"),
        (("--task", "prose", "--texts", "nowhere.jsonl"), "give --task or --texts"),
    ],
)
def test_mistakes_are_one_line(pair, options, message):
    base, tuned = pair
    with pytest.raises(AdapterlabError) as found:
        run(tuned, "--base", base, *options)
    assert message in str(found.value)
    assert "\n" not in str(found.value)


def test_progress_has_one_line_for_each_stage_without_a_terminal(pair, tmp_path):
    base, tuned = pair
    output = run(tuned, "--base", base, *FEW, "--out", tmp_path / "out")
    lines = [line for line in output.splitlines() if line.startswith("[")]
    assert [line.split("] ")[1].split(":")[0] for line in lines] == ["reading the weights", "measuring the layers"]
