"""The `mixture` task: tasks in turns, and task indices for routed adapters."""

from __future__ import annotations

import pytest
import torch

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.trial.code_version import code_version, decisive_files
from adapterlab.lab.trial.score import NoAdapter
from adapterlab.models.loading import load_causal
from adapterlab.surgery import attach
from adapterlab.surgery.sites.routed import is_routed
from adapterlab.tasks import task
from adapterlab.tasks.algorithm import Algorithm
from adapterlab.tasks.base import Part
from adapterlab.tasks.facts import Facts
from adapterlab.tasks.mixture import Mixture
from tests.adapters.methods import noisy
from tests.conftest import tiny_gpt2, tiny_llama


class Two(Mixture):
    """A small mixture without a name, which is not registered."""

    name = ""
    components = (Facts, Algorithm)


@pytest.fixture(scope="module")
def tokenizer():
    return load_causal().tokenizer


def text_of(tokenizer, examples, row: int) -> str:
    return tokenizer.decode(examples.inputs["input_ids"][row])


def test_tasks_take_turns_in_training_and_small_ones_are_repeated(tokenizer):
    examples = Two().examples(Part.TRAIN, tokenizer, 64, 1 << 30)
    ids = examples.inputs["task_ids"]
    assert ids.tolist() == [0, 1] * (len(ids) // 2)
    assert len(ids) > 2 * len(Facts().examples(Part.TRAIN, tokenizer, 64, 1 << 30))
    assert "sort(" in text_of(tokenizer, examples, 1)
    assert "sort(" not in text_of(tokenizer, examples, 0)


def test_scored_parts_hold_each_example_once(tokenizer):
    examples = Two().examples(Part.TEST, tokenizer, 64, 20)
    assert len(examples) == 20
    assert len({text_of(tokenizer, examples, i) for i in range(20)}) == 20
    assert examples.inputs["task_ids"].sum() == 10


def test_the_score_is_the_mean_of_the_scores_of_the_tasks(tokenizer):
    model = tiny_llama(vocab_size=len(tokenizer))
    for part in (Part.TEST, Part.OOD):
        own = [t().score(model, t().examples(part, tokenizer, 64, 8), NoAdapter()) for t in (Facts, Algorithm)]
        both = Two().score(model, Two().examples(part, tokenizer, 64, 16), NoAdapter())
        assert both.loss == pytest.approx(sum(s.loss for s in own) / 2, rel=1e-5)
        assert both.accuracy == pytest.approx(sum(s.accuracy for s in own) / 2)
        assert both.rows == pytest.approx([*own[0].rows, *own[1].rows], rel=1e-6)
        uneven = Two().score(model, Two().examples(part, tokenizer, 64, 15), NoAdapter())
        assert sum(uneven.rows) / len(uneven.rows) == pytest.approx(uneven.loss)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_only_a_routed_adapter_gets_the_task_ids(make):
    told = []
    model = make()
    batch = {
        "input_ids": torch.tensor([[1, 2, 3], [4, 5, 6]]),
        "scored": torch.tensor([[False, True, True]] * 2),
        "task_ids": torch.tensor([0, 1]),
    }
    model.register_forward_pre_hook(lambda _, args, kwargs: told.append("task_ids" in kwargs), with_kwargs=True)
    plain = Two().loss(model, batch)
    lora = attach(model, adapter("lora", rank=2))
    assert torch.isfinite(Two().loss(model, batch))
    lora.detach()
    poly = attach(model, adapter("poly", rank=2, tasks=2))
    assert is_routed(model)
    torch.testing.assert_close(Two().loss(model, batch), plain)
    poly.detach()
    assert not is_routed(model)
    assert told == [False, False, True]


def test_poly_depends_on_the_task_and_an_unknown_task_is_named(llama):
    handle = attach(llama, adapter("poly", rank=2, tasks=2))
    noisy(handle.parameters())
    batch = {"input_ids": torch.tensor([[1, 2, 3]]), "scored": torch.tensor([[False, True, True]])}
    losses = [Two().loss(llama, {**batch, "task_ids": torch.tensor([i])}).item() for i in (0, 1)]
    assert losses[0] != losses[1]
    with pytest.raises(AdapterlabError, match=r"task_ids \[2\]: poly has 2 tasks"):
        Two().loss(llama, {**batch, "task_ids": torch.tensor([2])})


def test_the_base_domain_is_shared_out_equally(tokenizer):
    ids = Two().examples(Part.BASE, tokenizer, 64, 8).inputs["task_ids"]
    assert ids.tolist() == [0, 1] * 4


def test_a_component_that_changes_is_another_mixture():
    files = dict(decisive_files("lora", task("mixture")))
    assert {"adapterlab/tasks/facts.py", "adapterlab/tasks/prose.py"} <= files.keys()
    assert code_version("lora", task("mixture")) != code_version("lora", task("prose"))
    for kind in Mixture.components:
        assert kind().fingerprint() in task("mixture").fingerprint()
