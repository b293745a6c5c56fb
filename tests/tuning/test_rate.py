"""`adapterlab rate` and `adapterlab.predict_rate`, on tiny models and on the embedded one."""

from __future__ import annotations

import json
import math

import pytest
from typer.testing import CliRunner

import adapterlab
from adapterlab.cli import app
from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.rate_prediction import CurvatureLaw, curvature_law, predict
from adapterlab.lab.run.rate_priors import RatePrior
from adapterlab.lab.trial.start_scale import StartScale
from adapterlab.models.loading import load_causal
from tests.lab.tiny import save_model
from tests.tasks.user_files import completions, labelled, write

LAW = CurvatureLaw(-4.0, 0.5, contests=20, methods=12, reach={"prior": 1.0, "curvature": 2.0, "both": 0.5})
SCALE = StartScale(slope=2.0, curvature=20_000.0, norm=0.1, parameters=400)
"""Its rate is 1e-4, position -16, so the line gives -4 - 8 = -12: 1e-3."""


def predicted(method: str = "mine", scale: StartScale = SCALE, **changes):
    options = {"steps": 40, "width": 256, "embedded": True, "law": LAW}
    return predict(method, {"alpha": 16.0}, scale, **(options | changes))


@pytest.fixture
def priors(monkeypatch):
    known = {"lora": RatePrior(1e-2, 256, 16.0, 20, 0.4)}
    monkeypatch.setattr("adapterlab.lab.run.rate_prediction.rate_priors", lambda: known)


def test_a_method_without_a_prior_is_predicted_by_curvature_alone(priors):
    found = predicted()
    assert (found.rate, found.prior) == (1e-3, None)
    assert (found.low, found.high) == (pytest.approx(3.2e-4), pytest.approx(3.2e-3)), "two steps of a quarter decade"


def test_with_a_prior_the_rate_is_the_geometric_mean(priors):
    found = predicted("lora")
    assert (found.prior, found.by_curvature) == (1e-2, pytest.approx(1e-3))
    assert found.rate == float(f"{math.sqrt(1e-5):.2g}")
    assert found.high / found.low == pytest.approx(10**0.25, rel=0.03)


def test_a_loss_that_bends_down_leaves_the_prior_or_nothing(priors):
    down = StartScale(slope=2.0, curvature=-3.0, norm=0.1, parameters=400)
    found = predicted("lora", down)
    assert (found.rate, found.by_curvature) == (1e-2, None)
    with pytest.raises(AdapterlabError, match="mine: the loss does not bend up"):
        predicted("mine", down)


def test_what_was_not_validated_is_said(priors):
    assert predicted("lora").notes == ()
    assert "embedded model alone" in predicted("lora", embedded=False).notes[0]
    assert "20 steps" in predicted("lora", steps=2000).notes[0]


def test_the_shipped_line_was_fitted_to_several_methods():
    law = curvature_law()
    assert 0 < law.slope < 1
    assert law.contests >= law.methods >= 10
    assert 0 < law.reach["both"] < law.reach["curvature"] < 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("user")
    save_model(folder / "model")
    write(folder / "sums.jsonl", completions(60))
    write(folder / "films.jsonl", labelled(60))
    (folder / "empty.jsonl").write_text("")
    return folder


def invoke(folder, *options: str, train: str = "sums.jsonl", model: str | None = None):
    chosen = str(folder / "model") if model is None else model
    return CliRunner().invoke(app, ["rate", "--model", chosen, "--train", str(folder / train), *options])


def test_the_command_prints_the_rate_its_range_its_origin_and_how_to_use_it(folder):
    said = invoke(folder, "--method", "lora").stdout
    rate = adapterlab.predict_rate("lora", folder / "model", folder / "sums.jsonl").rate
    assert said.startswith(f"learning rate of lora: {rate:g}\n")
    origin = "slope", "curvature", "gradient norm", "60 steps", "embedded model alone"
    for words in (*origin, "90 % of cases", "TrainingArguments(learning_rate", "adapterlab tune"):
        assert words in said


def test_json_holds_what_python_returns(folder):
    options = ["--method", "lora", "--rank", "2", "--steps", "30", "--batch", "4", "--length", "32", "--json"]
    found = adapterlab.predict_rate(
        "lora", folder / "model", folder / "sums.jsonl", steps=30, rank=2, batch=4, length=32
    )
    assert json.loads(invoke(folder, *options).stdout) == json.loads(json.dumps(found.to_json()))
    assert found.low < found.rate < found.high
    assert found.scale.parameters == adapterlab.parameter_count(
        load_causal(str(folder / "model")).model, adapterlab.adapter("lora", rank=2)
    )


def test_the_same_rate_is_given_again_and_for_a_model_in_memory(folder):
    first = adapterlab.predict_rate("lora", folder / "model", folder / "sums.jsonl", rank=2)
    model, tokenizer = load_causal(str(folder / "model"))
    assert adapterlab.predict_rate("lora", model, folder / "sums.jsonl", tokenizer=tokenizer, rank=2) == first
    assert adapterlab.predict_rate("lora", model, completions(60), tokenizer=tokenizer, rank=2).rate > 0


def test_twice_the_alpha_halves_the_scale(folder):
    """`alpha` and the rate are one degree of freedom of LoRA."""
    from adapterlab.tuning import rate
    from adapterlab.tuning.rate import make_rate_request

    request = make_rate_request(
        "lora", str(folder / "model"), folder / "sums.jsonl", steps=20, rank=2, batch=4, length=32
    )
    scales = [
        rate.predict_rate(rate.replace(request, adapter=adapterlab.adapter("lora", rank=2, alpha=alpha))).scale.rate
        for alpha in (16.0, 32.0)
    ]
    assert scales[0] == pytest.approx(2 * scales[1], rel=0.02)


def test_a_classifier_has_a_rate_too(folder):
    assert invoke(folder, "--method", "lora", train="films.jsonl").exit_code == 0


@pytest.mark.parametrize(
    ("options", "more", "message"),
    [
        (["--method", "hro"], {}, "unknown adapter 'hro': did you mean hra"),
        (["--method", "oft", "--rank", "4"], {}, "unknown setting 'rank' in adapter 'oft'"),
        (["--method", "lora", "--rank", "1000"], {}, "lora: rank 1000 does not fit"),
        (["--method", "delora"], {}, "delora trains with several learning rates"),
        (["--method", "lora"], {"train": "empty.jsonl"}, "holds no rows"),
        (["--method", "lora"], {"train": "nothing.jsonl"}, "nothing.jsonl"),
        (["--method", "lora"], {"model": "/no/such/model"}, "there is no folder /no/such/model"),
        (["--method", "bitfit"], {"model": "embedded"}, "no parameter that bitfit adapts"),
    ],
)
def test_a_mistake_is_one_line(folder, options, more, message):
    error = invoke(folder, *options, **more).exception
    assert isinstance(error, AdapterlabError)
    assert message in str(error)
    assert "\n" not in str(error)


def test_on_the_embedded_model_the_rate_is_near_the_one_that_searches_find(folder):
    """Searches of LoRA at rank 8 found 0.01 on three tasks; a step of the lattice is a factor of 1.78."""
    found = adapterlab.predict_rate("lora", "embedded", folder / "sums.jsonl")
    assert 1e-2 / 1.78 <= found.rate <= 1e-2 * 1.78
