"""The objective of AntiPaSTO as what a trainer minimizes, and the directions that it starts from."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.nn.functional import cosine_similarity
from transformers import Trainer, TrainingArguments

from adapterlab.adapters import adapter
from adapterlab.errors import AdapterlabError
from adapterlab.lab.steering import Pairs, SteeringObjective, task_subspace
from adapterlab.surgery import attach, load
from adapterlab.surgery.init.svd_cache import FactorCache
from tests.conftest import tiny_gpt2, tiny_llama

TARGETS = ["output", "down"]


@pytest.fixture
def pairs():
    """Eight prefixes of two lengths, whose halves differ by the word in front."""
    generator = torch.Generator().manual_seed(5)
    rest = torch.randint(2, 64, (8, 9), generator=generator)
    mask = torch.ones(8, 10, dtype=torch.long)
    mask[4:, -3:] = 0
    halves = [
        {"input_ids": torch.cat([torch.full((8, 1), word), rest], dim=1), "attention_mask": mask} for word in (0, 1)
    ]
    return Pairs(*halves, yes=torch.full((8,), 7), no=torch.full((8,), 9))


def shifts(objective, handle, pairs):
    """How the difference of the halves moves at +1 and at -1, and the difference itself."""
    found = {}
    with torch.no_grad():
        for strength in (0.0, 1.0, -1.0):
            handle.strength = strength
            answers = objective.answers(handle, pairs)
            found[strength] = answers.chosen - answers.rejected
    handle.strength = 1.0
    return found[1.0] - found[0.0], found[-1.0] - found[0.0], found[0.0]


def test_training_on_it_moves_the_two_signs_apart_along_the_pairs_own_axis(pairs):
    torch.manual_seed(0)
    model = tiny_llama()
    handle = attach(model, adapter("antipasto", rank=8, noise=0.03), TARGETS)
    with handle.disabled(), torch.no_grad():
        subspace = task_subspace(SteeringObjective().answers(handle, pairs), 4)
    objective = SteeringObjective(subspace, warmup=0.5)
    optimizer = torch.optim.Adam(handle.parameters(), lr=0.02)
    losses = []
    for step in range(25):
        loss = objective(handle, pairs, progress=step / 25)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0] - 0.05
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    up, down, axis = (t @ subspace for t in shifts(objective, handle, pairs))
    along, against = (cosine_similarity(t, axis, dim=-1) for t in (up, down))
    assert (along * against < 0).float().mean() >= 0.75
    assert handle.strength == 1.0


def test_a_trainer_of_transformers_minimizes_it(pairs, tmp_path):
    model = tiny_llama()
    handle = attach(model, adapter("antipasto", rank=8, noise=0.03), TARGETS)
    objective = SteeringObjective()

    class Steering(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
            return objective(handle, pairs, progress=self.state.global_step / self.state.max_steps)

    arguments = TrainingArguments(
        str(tmp_path),
        max_steps=5,
        learning_rate=1e-2,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    start = objective(handle, pairs).item()
    before = [p.detach().clone() for p in handle.parameters()]
    Steering(model, arguments, train_dataset=[{"input_ids": row} for row in pairs.chosen["input_ids"]]).train()
    assert objective(handle, pairs).item() < start
    assert not any(torch.equal(a, b) for a, b in zip(before, handle.parameters(), strict=True))


def test_padding_changes_nothing(pairs):
    handle = attach(tiny_llama(), adapter("antipasto", rank=4, noise=0.3), TARGETS)
    short = Pairs(*({key: t[4:, :7] for key, t in half.items()} for half in pairs[:2]), pairs.yes[4:], pairs.no[4:])
    padded = Pairs(*({key: t[4:] for key, t in half.items()} for half in pairs[:2]), pairs.yes[4:], pairs.no[4:])
    for name, own in SteeringObjective().answers(handle, short)._asdict().items():
        torch.testing.assert_close(getattr(SteeringObjective().answers(handle, padded), name), own)


def test_order_counts_only_after_the_warmup(pairs):
    handle = attach(tiny_llama(), adapter("antipasto", rank=4, noise=0.3), TARGETS)
    objective = SteeringObjective(order_margin=5.0)
    assert objective(handle, pairs, progress=0.4) < objective(handle, pairs, progress=0.6)


def test_a_method_without_a_strength_of_minus_one_is_refused(pairs):
    handle = attach(tiny_llama(), adapter("prompt", length=2))
    with pytest.raises(AdapterlabError, match="cannot be steered both ways"):
        SteeringObjective()(handle, pairs)
    assert handle.strength == 1.0


def test_a_model_under_gradient_checkpointing_is_refused(pairs):
    model = tiny_llama().train()
    handle = attach(model, adapter("antipasto", rank=4), TARGETS)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    with pytest.raises(AdapterlabError, match="turn gradient checkpointing off"):
        SteeringObjective()(handle, pairs)


def by_the_task(model, pairs, directions="task", **settings):
    runs = [lambda half=half: model(input_ids=half["input_ids"]) for half in pairs[:2]]
    return attach(model, adapter("antipasto", rank=6, directions=directions, **settings), TARGETS, runs=runs)


@pytest.mark.parametrize("make", [tiny_llama, tiny_gpt2])
def test_directions_are_those_that_vary_most_over_the_pairs(make, pairs):
    """Appendix A.4: a third each by the chosen prefixes, the rejected ones and their differences."""
    model, twin = make(), make()
    handle = by_the_task(model, pairs)
    for path, site in handle.sites.items():
        seen = []
        layer = twin.get_submodule(path)
        hook = layer.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0][:, -1]))
        with torch.no_grad():
            for half in pairs[:2]:
                twin(input_ids=half["input_ids"])
        hook.remove()
        weight = layer.weight.detach() if make is tiny_llama else layer.weight.detach().T
        u, s, vt = FactorCache()(weight)
        wanted = []
        for x in (*seen, seen[0] - seen[1]):
            order = (s * (x @ vt.T).std(0)).argsort(descending=True).tolist()
            wanted += [k for k in order if k not in wanted][:2]
        assert site.chosen.tolist() == sorted(wanted)
        torch.testing.assert_close(site.u, u[:, sorted(wanted)])


@pytest.mark.parametrize("directions", ["task", "auto"])
def test_directions_by_the_task_are_saved_as_their_numbers_and_taken_from_the_base_again(directions, pairs, tmp_path):
    model = tiny_llama()
    handle = by_the_task(model, pairs, directions, noise=0.3)
    assert all("chosen" in site.state.frozen for site in handle.sites.values())
    handle.save(tmp_path)
    other = tiny_llama()
    again = load(other, tmp_path)
    tokens = pairs.chosen["input_ids"]
    assert torch.equal(other(tokens).logits, model(tokens).logits)
    assert dataclasses.asdict(again.adapter) == dataclasses.asdict(handle.adapter)


def test_without_pairs_the_directions_are_the_largest(tmp_path):
    handle = attach(tiny_llama(), adapter("antipasto", rank=6, noise=0.3), TARGETS)
    for path, site in handle.sites.items():
        assert "chosen" not in site.state.frozen
        torch.testing.assert_close(site.s, torch.linalg.svdvals(tiny_llama().get_submodule(path).weight)[:6])
    handle.save(tmp_path)
    again = load(tiny_llama(), tmp_path)
    for path, site in again.sites.items():
        assert torch.equal(site.s, handle.sites[path].s)


@pytest.mark.parametrize("runs", [[], [lambda: None]])
def test_directions_by_the_task_need_two_runs_of_the_model(runs):
    model = tiny_llama()
    structure = repr(model)
    with pytest.raises(AdapterlabError, match=r"runs=\[lambda: model\(chosen\)|run the whole model in it"):
        attach(model, adapter("antipasto", rank=4, directions="task"), TARGETS, runs=runs)
    assert repr(model) == structure
    assert not any(layer._forward_pre_hooks for layer in model.modules())
