"""Exact inference against pgmpy, and what makes credences probabilities."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from pgmpy.factors.discrete import TabularCPD
from pgmpy.inference import VariableElimination
from pgmpy.models import DiscreteBayesianNetwork
from scipy.optimize import brentq

from adapterlab.argmap.scoring import belief_network
from adapterlab.argmap.scoring.belief_network import BeliefNetwork, CyclicError, Prediction, Variable
from adapterlab.argmap.scoring.join_tree import TooEntangledError

SEEDS = range(40)


def random_network(seed: int, evidence: bool = True) -> BeliefNetwork:
    """A network of up to ten claims, some with several parents, some arrows undercut, some numbers certain."""
    rng = random.Random(seed)
    names: list[str] = []
    given: list[float] = []

    def number(name: str, certain: float = 0.05) -> int:
        names.append(name)
        given.append(float(rng.choice((0, 1))) if rng.random() < certain else rng.uniform(0.05, 0.95))
        return len(names) - 1

    variables, predictions = [], []
    for i in range(rng.randint(2, 10)):
        parents = rng.sample(range(i), min(i, rng.choice((0, 1, 1, 1, 2, 3))))
        for parent in parents:
            undercutters = tuple(rng.sample(range(i), rng.choice((0, 0, 0, 1, 2)) if i > 1 else 0))
            rates = (number(f"{i} if {parent}"), number(f"{i} if not {parent}"))
            predictions.append(Prediction(parent, i, rates, undercutters=undercutters))
        prior = None if parents else number(f"prior {i}", certain=0)
        credence = number(f"credence {i}", certain=0) if evidence and rng.random() < 0.6 else None
        variables.append(Variable(str(i), prior, credence, rng.choice((1.0, 1.0, 0.4))))
    return BeliefNetwork(variables, predictions, names, given)


def by_pgmpy(network: BeliefNetwork) -> tuple[list[float], list[float]]:
    """The base rate and the posterior of each variable; tables are filled state by state, variables in their order."""
    model = DiscreteBayesianNetwork()
    base: list[float] = []
    virtual, full = {}, {}
    for i, variable in enumerate(network.variables):
        arrows = [arrow for arrow in network.predictions if arrow.child == i]
        parents = sorted({v for arrow in arrows for v in (arrow.parent, *arrow.undercutters)})
        before = model.copy()
        model.add_node(str(i))
        model.add_edges_from((str(parent), str(i)) for parent in parents)
        true = []
        for states in itertools.product((0, 1), repeat=len(parents)):
            at, said = dict(zip(parents, states, strict=True)), []
            for arrow in arrows:
                if_true, if_false = (network.given[k] for k in arrow.rates)
                if any(at[u] for u in arrow.undercutters):
                    rate = where_void(before, arrow)
                    said.append(if_true * rate + if_false * (1 - rate))
                else:
                    said.append(if_true if at[arrow.parent] else if_false)
            true.append(sum(said) / len(said) if said else network.given[variable.prior])
        table = [[1 - p for p in true], true]
        model.add_cpds(TabularCPD(str(i), 2, table, [str(p) for p in parents], [2] * len(parents)))
        rate = float(VariableElimination(model).query([str(i)], show_progress=False).values[1])
        base.append(rate)
        if variable.credence is not None and 0 < rate < 1:
            credence = network.given[variable.credence]
            factor = np.array([(1 - credence) / (1 - rate), credence / rate])
            full[i] = evidence(i, factor)
            virtual[i] = evidence(i, discounted(factor, arrows, network.given, variable.weight))
    inference = VariableElimination(model)
    after = []
    for i in range(len(base)):
        of_others = [cpd for k, cpd in virtual.items() if k != i]
        own = [full[i]] if i in full else []
        found = inference.query([str(i)], virtual_evidence=[*of_others, *own], show_progress=False)
        after.append(float(found.values[1]))
    return base, after


def evidence(i: int, factor: np.ndarray) -> TabularCPD:
    return TabularCPD(str(i), 2, (factor / factor.sum())[:, None])


def discounted(factor: np.ndarray, arrows: list[Prediction], given: list[float], weight: float) -> np.ndarray:
    """The likelihood whose Bayes factor for the only parent is that of `factor` to the power of the weight, by a search."""
    if weight == 1:
        return factor
    if len(arrows) != 1 or arrows[0].undercutters or given[arrows[0].rates[0]] == given[arrows[0].rates[1]]:
        return factor**weight
    a, b = (given[k] for k in arrows[0].rates)

    def for_parent(share: float) -> float:
        """The logarithm of the Bayes factor of a likelihood of `share` if true and `1 - share` if false."""
        return float(np.log(a * share + (1 - a) * (1 - share)) - np.log(b * share + (1 - b) * (1 - share)))

    share = brentq(lambda s: for_parent(s) - weight * for_parent(factor[1] / factor.sum()), 0.0, 1.0, xtol=1e-15)
    return np.array([1 - share, share])


def where_void(model: DiscreteBayesianNetwork, arrow: Prediction) -> float:
    """The probability of an arrow's parent where an undercutter is true: the sum of the joint table's cells."""
    names = [str(v) for v in dict.fromkeys((arrow.parent, *arrow.undercutters))]
    joint = VariableElimination(model).query(names, show_progress=False)
    total = [0.0, 0.0]
    for states in itertools.product((0, 1), repeat=len(names)):
        at = dict(zip(names, states, strict=True))
        if any(at[str(u)] for u in arrow.undercutters):
            total[at[str(arrow.parent)]] += joint.get_value(**at)
    return total[1] / sum(total) if sum(total) else 0.5


@pytest.mark.parametrize("together", [0, 6])
@pytest.mark.parametrize("seed", SEEDS)
def test_it_is_exact(seed, together, monkeypatch):
    """Also where several parents are chained through a choice instead of standing in one table."""
    monkeypatch.setattr(belief_network, "MOST_TOGETHER", together)
    network = random_network(seed)
    base, after = by_pgmpy(network)
    assert network.base_rates() == pytest.approx(base, abs=1e-9)
    assert [value.item() for value in network.posterior()] == pytest.approx(after, abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_without_evidence_every_claim_has_its_base_rate(seed):
    network = random_network(seed, evidence=False)
    base = network.base_rates()
    assert [value.item() for value in network.posterior()] == pytest.approx(base, abs=1e-12)
    full = random_network(seed)
    base = full.base_rates()
    silent = {full.names[v.credence]: base[i] for i, v in enumerate(full.variables) if v.credence is not None}
    assert [value.item() for value in full.posterior(silent)] == pytest.approx(base, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS[:10])
def test_draws_are_computed_together_as_one_by_one(seed):
    network = random_network(seed)
    rng = np.random.default_rng(seed)
    draws = {name: rng.uniform(0.05, 0.95, 5) for name in network.names[::2]}
    together = network.posterior(draws)
    for k in range(5):
        alone = network.posterior({name: values[k] for name, values in draws.items()})
        for one, all_ in zip(alone, together, strict=True):
            assert one.item() == pytest.approx(np.broadcast_to(all_, 5)[k], abs=1e-12)


def test_certain_evidence_conditions():
    rates = {"p": 0.2, "a": 0.9, "b": 0.1, "seen": 1.0}
    network = BeliefNetwork(
        [Variable("T", prior=0), Variable("C", credence=3)],
        [Prediction(0, 1, (1, 2))],
        list(rates),
        list(rates.values()),
    )
    assert network.posterior()[0].item() == pytest.approx(0.2 * 0.9 / (0.2 * 0.9 + 0.8 * 0.1))
    assert network.posterior({"seen": 0.0})[0].item() == pytest.approx(0.2 * 0.1 / (0.2 * 0.1 + 0.8 * 0.9))


def test_a_circle_and_a_tangle_are_refused_by_name():
    with pytest.raises(CyclicError, match="A bears on itself"):
        BeliefNetwork([Variable("A"), Variable("B")], [Prediction(0, 1), Prediction(1, 0)], [], [])
    count = 60
    rng = random.Random(0)
    arrows = [Prediction(p, i) for i in range(1, count) for p in rng.sample(range(i), min(i, 12))]
    with pytest.raises(TooEntangledError, match="too entangled for exact inference"):
        BeliefNetwork([Variable(str(i)) for i in range(count)], arrows, [], [])
