"""The `steer` task: pairs, and their movement with the strength."""

from __future__ import annotations

import ast
import dataclasses
import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn.functional import cross_entropy

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.run.prepare import prepare
from adapterlab.lab.study.load import load_study
from adapterlab.lab.trial.score import NoAdapter
from adapterlab.lab.trial.train import backward
from adapterlab.surgery import attach
from adapterlab.tasks import task
from adapterlab.tasks.base import Examples, Part
from adapterlab.tasks.scoring import score_text
from adapterlab.tasks.steer import Pair, at_strength, conditions, pairs, sentences
from tests.conftest import tiny_llama
from tests.lab.runner import RUNNER
from tests.lab.tiny import save_study

STEER = task("steer")


class Turned(torch.nn.Module):
    """A model with logits `bias + strength * push` for any input; it is its own control."""

    def __init__(self, bias: list[float], push: list[float]) -> None:
        super().__init__()
        self.bias, self.push = (torch.nn.Parameter(torch.tensor(t)) for t in (bias, push))
        self.strength = 1.0

    def forward(self, input_ids):
        row = self.bias + self.strength * self.push
        return SimpleNamespace(logits=row.expand(*input_ids.shape, len(row)))


class OneWay(Turned):
    """The same model without negative strengths."""

    def __setattr__(self, name, value):
        if name == "strength" and value < 0:
            raise AdapterlabError("no negative strength")
        super().__setattr__(name, value)


def make(chosen: list[int], rejected: list[int], size: int) -> Examples:
    """Return one pair for each token of the two lists, after token 0."""
    inputs = {}
    for side, tokens in (("chosen", chosen), ("rejected", rejected)):
        inputs[f"{side}_input_ids"] = torch.tensor([[0, token] for token in tokens])
        inputs[f"{side}_scored"] = torch.tensor([[False, True]] * len(tokens))
    return Examples(inputs, size)


BIAS, PUSH = [0.0, 0.3, -0.2, 0.1], [0.0, 2.0, 0.5, -1.0]
TWO = make([1, 2], [3, 3], size=10)
"""The softmax normalizer cancels in log-odds, so pair 1 moves by 2 - (-1) = 3 at strength 1, and pair 2 by 1.5."""


@pytest.mark.parametrize("strength", [1.0, 0.5, 1.25])
def test_the_score_is_the_movement_of_the_log_odds_per_byte(strength):
    model = Turned(BIAS, PUSH)
    model.strength = strength
    scores = STEER.score(model, TWO, model)
    assert scores.loss == pytest.approx(-4.5 * strength / 10, rel=1e-5)
    assert scores.accuracy == 1.0
    assert scores.rows == pytest.approx([-3 * strength * 2 / 10, -1.5 * strength * 2 / 10], rel=1e-5)
    assert model.strength == strength


def test_the_weaker_direction_counts():
    class Lopsided(Turned):
        def forward(self, input_ids):
            row = self.bias + self.push * (self.strength if self.strength > 0 else 0.1 * self.strength)
            return SimpleNamespace(logits=row.expand(*input_ids.shape, len(row)))

    model = Lopsided(BIAS, PUSH)
    scores = STEER.score(model, TWO, model)
    assert scores.loss == pytest.approx(-0.045, rel=1e-4)
    assert scores.rows == pytest.approx([-0.06, -0.03], rel=1e-4)


def test_only_pairs_that_move_both_ways_are_right():
    model = Turned(BIAS, PUSH)
    scores = STEER.score(model, make([1, 3], [3, 2], size=10), model)
    assert scores.loss == pytest.approx(-(3 - 1.5) / 10, rel=1e-5)
    assert scores.accuracy == 0.5


def test_a_model_without_an_adapter_does_not_move():
    assert STEER.score(Turned(BIAS, PUSH), TWO, NoAdapter()) == (0.0, 0.0, (0.0, 0.0))


def test_strength_zero_is_no_movement():
    model = Turned(BIAS, PUSH)
    model.strength = 0.0
    assert STEER.score(model, TWO, model) == (0.0, 0.0, (0.0, 0.0))


def test_a_method_without_negative_strength_does_not_move_down():
    model = OneWay(BIAS, PUSH)
    assert STEER.score(model, TWO, model) == (0.0, 0.0, (0.0, 0.0))
    assert model.strength == 1.0


def test_the_price_in_fluency_is_the_mean_of_both_ends():
    text = Examples({"input_ids": torch.tensor([[0, 1, 3]]), "scored": torch.tensor([[False, True, True]])}, 4)
    model = Turned(BIAS, PUSH)
    expected = 0.0
    for sign in (1, -1):
        row = torch.tensor(BIAS) + sign * torch.tensor(PUSH)
        expected += float(cross_entropy(torch.stack([row, row]), torch.tensor([1, 3]), reduction="sum")) / 4 / 2
    assert STEER.score(model, text, model).loss == pytest.approx(expected, rel=1e-6)
    assert STEER.score(model, text, NoAdapter()) == score_text(model, text)


def test_the_base_is_scored_once_for_all_who_keep_its_scores():
    class Counted(Turned):
        def forward(self, input_ids):
            seen.append(self.strength)
            return super().forward(input_ids)

    class Keeping:
        def __init__(self, model, kept):
            self.model, self.kept = model, kept

        def __setattr__(self, name, value):
            setattr(self.model, name, value) if name == "strength" else super().__setattr__(name, value)

        strength = property(lambda self: self.model.strength)

    seen, model = [], Counted(BIAS, PUSH)
    wanted, kept = STEER.score(model, TWO, model), {}
    assert seen.count(0.0) == 2  # one for each side
    seen.clear()
    assert [STEER.score(model, TWO, Keeping(model, kept)) for _ in range(3)] == [wanted] * 3
    assert seen.count(0.0) == 2


def test_the_strength_is_restored_when_scoring_fails():
    class Broken(Turned):
        def forward(self, input_ids):
            raise RuntimeError("broken")

    model = Broken(BIAS, PUSH)
    model.strength = 0.75
    with pytest.raises(RuntimeError, match="broken"):
        STEER.score(model, TWO, model)
    assert model.strength == 0.75


def test_training_uses_both_signs_and_restores_the_strength():
    model = Turned(BIAS, PUSH)
    model.strength = 0.75
    seen = [model.strength for _ in STEER.losses(model, TWO.inputs, model)]
    assert seen == [1.0, -1.0]
    assert model.strength == 0.75
    assert len(list(STEER.losses(OneWay(BIAS, PUSH), TWO.inputs, OneWay(BIAS, PUSH)))) == 1


def test_the_preference_loss_starts_at_log_two_and_falls_with_movement():
    still = Turned(BIAS, [0.0] * 4)
    log_p = torch.tensor(BIAS).log_softmax(0)
    up, down = (loss.item() for loss in STEER.losses(still, TWO.inputs, still))
    assert up == pytest.approx(float(2 * math.log(2) - log_p[1] - log_p[2]), rel=1e-5)
    assert down == pytest.approx(float(2 * math.log(2) - 2 * log_p[3]), rel=1e-5)
    moved = Turned(BIAS, PUSH)
    assert sum(loss.item() for loss in STEER.losses(moved, TWO.inputs, moved)) < up + down


SETTINGS = {"lora": {}, "ia3": {}, "oft": {"block_size": 8}, "antipasto": {"rank": 16}}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_method_learns_to_move_both_ways(name):
    tokens = torch.Generator().manual_seed(0)
    prompts = torch.randint(4, 64, (8, 5), generator=tokens)
    ends = {"chosen": 1, "rejected": 2}
    inputs = {f"{side}_input_ids": torch.cat([prompts, torch.full((8, 1), end)], 1) for side, end in ends.items()}
    inputs |= {f"{side}_scored": torch.arange(6).expand(8, 6) == 5 for side in ends}
    model = tiny_llama()
    handle = attach(model, adapter(name, **SETTINGS[name]))
    optimizer = torch.optim.AdamW(handle.parameters(), lr=0.02)
    before = STEER.score(model, Examples(inputs, 8), handle).loss
    for _ in range(15):
        optimizer.zero_grad()
        backward(STEER, model, inputs, None, handle)
        optimizer.step()
    after = STEER.score(model, Examples(inputs, 8), handle)
    assert after.loss < before - 0.03
    assert after.accuracy > 0.9
    handle.detach()


def test_a_contrast_runs_both_sides_without_padding():
    seen = []
    examples = make([5, 6], [7, 8], size=10)
    for side in ("chosen", "rejected"):
        ids, scored = examples.inputs[f"{side}_input_ids"], examples.inputs[f"{side}_scored"]
        padded = torch.tensor([[9, 0], [0, 0]])
        examples.inputs[f"{side}_input_ids"] = torch.cat([ids, padded], dim=1)
        examples.inputs[f"{side}_scored"] = torch.cat([scored, padded == 9], dim=1)
    for run in STEER.contrast(lambda input_ids: seen.append(input_ids.tolist()), examples.inputs):
        run()
    assert seen == [[[0, 5, 9]], [[0, 6]], [[0, 7, 9]], [[0, 8]]]


def test_a_method_that_starts_from_pairs_gets_them_from_the_lab(tmp_path):
    trial = dataclasses.replace(
        prepare(load_study(save_study(tmp_path))).contests()[-1].trial(1e-2, 1, 2, reported=True),
        adapter=json.dumps(adapter("antipasto", rank=4).settings()),
        targets="all-linear",
        parts=(),
        length=128,
        curve_every=0,
    )
    found = []
    for name in ("steer", "prose"):
        RUNNER.run(dataclasses.replace(trial, task=name), lambda h: found.append(next(iter(h.sites.values()))))
    assert ["chosen" in site.state.frozen for site in found] == [True, False]


def test_a_batch_in_pieces_gives_the_gradient_of_the_whole():
    found = []
    for pieces in (None, 1):
        model = Turned(BIAS, PUSH)
        loss = backward(STEER, model, TWO.inputs, pieces, model)
        found.append((loss, model.push.grad))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    torch.testing.assert_close(found[0][1], found[1][1])


def test_the_pairs_of_a_program():
    source = "x = 1\nif not x:\n    pass\nelif x in y:\n    pass\nwhile a.b != c:\n    if p and q:\n        pass\n"
    assert list(conditions(source)) == [
        Pair("x = 1\nif", " not x:\n", " x:\n"),
        Pair("x = 1\nif not x:\n    pass\nelif x", " not in y:\n", " in y:\n"),
        Pair("    pass\nelif x in y:\n    pass\nwhile a.b", " != c:\n", " == c:\n"),
    ]


def test_the_pairs_of_a_text():
    text = "The file is not closed by this. Use it if\nthe name must be absolute. It has never been so."
    assert list(sentences(text)) == [
        Pair("The file is", " not closed by this.", " closed by this."),
        Pair("Use it if the name must", " not be absolute.", " be absolute."),
    ]


@pytest.mark.parametrize("part", [Part.TRAIN, Part.TEST])
def test_in_domain_both_sides_are_programs_with_opposite_conditions(part):
    for pair in pairs(part)[::50]:
        for side in (pair.chosen, pair.rejected):
            line = (pair.prompt + side).splitlines()[-1].strip().removeprefix("el")
            ast.parse(f"{line}\n    pass")
        assert len(pair.chosen) > len(pair.rejected) or "!=" in pair.chosen


def test_out_of_domain_is_english():
    assert all(p.chosen.startswith(" not ") and p.rejected == p.chosen.replace(" not", "", 1) for p in pairs(Part.OOD))
    assert all(p.prompt[0].isupper() and "\n" not in p.prompt for p in pairs(Part.OOD))
    assert len(pairs(Part.OOD)) > 200


def test_an_unsupported_strength_is_the_base_model():
    model = OneWay(BIAS, PUSH)
    with at_strength(model, -1.0) as supported:
        assert not supported
        assert model.strength == 0.0
    assert model.strength == 1.0
