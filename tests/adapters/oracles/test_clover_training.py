"""CLOVER's training, against the authors' code written out again and against the paper's equations in a plain model.

PEFT has no CLOVER. The authors' code factors a map by QR where it stands alone, where here it is an SVD: the bases differ by
a rotation, so that gradient descent moves the weight alike, and it is the weights that are compared. It also

- decomposes the queries, or in its first version queries and keys, where the paper says keys (section 4.2) and its counts
  hold for keys alone: `queries=True` is the first version;
- falls back to the values alone under grouped queries, where here the outputs of a group are decomposed with them. Both
  have a matrix for each key-value head and the same functions to choose from;
- drops 5 % of the features between the two factors in training, of which the paper says nothing.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch.func import functional_call

from adapterlab.adapters import adapter
from adapterlab.surgery import attach
from tests.adapters.methods import noisy
from tests.adapters.oracles.descent import ADAMW, SGD, agree, descend, same_descent
from tests.adapters.oracles.models import lively, loss_of
from tests.adapters.oracles.test_clover import one_key_value_head
from tests.conftest import tiny_gpt2, tiny_llama

SMALL = {"hidden_size": 24, "intermediate_size": 40}
LLAMAS = {
    "without groups": lambda: lively(tiny_llama(num_key_value_heads=4, tie_word_embeddings=False, **SMALL)),
    "groups of two": lambda: lively(tiny_llama(**SMALL)),
    "one key-value head": lambda: lively(tiny_llama(num_key_value_heads=1, head_dim=10, **SMALL)),
}


def with_bias(layer):
    weight = layer.weight.detach()
    return weight if layer.bias is None else torch.cat([weight, layer.bias.detach()[:, None]], dim=1)


class Plain:
    """A copy of a model whose weights are functions of a few trained matrices."""

    def __init__(self, model):
        self.model, self.trained, self.builders = copy.deepcopy(model), [], []

    def weights(self):
        return {name: tensor for build in self.builders for name, tensor in build().items()}

    def loss(self, tokens):
        return loss_of(functional_call(self.model, self.weights(), (tokens,)).logits, tokens)

    def train(self, matrices):
        self.trained.append(matrices.clone().requires_grad_())
        return self.trained[-1]

    def alone(self, path, width):
        """QR in each block of rows: `x -> R^T Q^T x`, and `R` is trained."""
        layer = self.model.get_submodule(path)
        q, r = torch.linalg.qr(with_bias(layer).unflatten(0, (-1, width)).mT)
        r = self.train(r)

        def build():
            whole = (r.mT @ q.mT).flatten(0, 1)
            if layer.bias is None:
                return {f"{path}.weight": whole}
            return {f"{path}.weight": whole[:, :-1], f"{path}.bias": whole[:, -1]}

        self.builders.append(build)

    def values_and_outputs(self, path, width):
        """Appendix A.1, head by head, or group by group: `W_O W_V = U S V`, and `S` is trained."""
        attention = self.model.get_submodule(path)
        heads = with_bias(attention.v_proj).split(width)
        outputs = attention.o_proj.weight.detach().split(width, dim=1)
        shared = len(outputs) // len(heads)
        bases = []
        for head, values in enumerate(heads):
            stacked = torch.cat(outputs[head * shared : (head + 1) * shared])
            u, s, vt = torch.linalg.svd(stacked @ values, full_matrices=False)
            bases.append((u[:, :width], self.train(torch.diag(s[:width])), vt[:width]))

        def build():
            value = torch.cat([s @ vt for _, s, vt in bases])
            output = torch.cat([part for u, *_ in bases for part in u.chunk(shared)], dim=1)
            names = {f"{path}.v_proj.weight": value[:, :-1], f"{path}.v_proj.bias": value[:, -1]}
            return names | {f"{path}.o_proj.weight": output}

        self.builders.append(build)


def product(weights, path, width, query_heads):
    """The value-output map of every query head, with the bias as a column."""
    value = torch.cat([weights[f"{path}.v_proj.weight"], weights[f"{path}.v_proj.bias"][:, None]], dim=1).split(width)
    output = weights[f"{path}.o_proj.weight"].split(width, dim=1)
    return torch.stack([output[h] @ value[h * len(value) // query_heads] for h in range(query_heads)])


@pytest.mark.parametrize("queries", [False, True])
@pytest.mark.parametrize("make", LLAMAS.values(), ids=LLAMAS)
def test_under_a_rotary_embedding_it_trains_as_the_authors_code(make, queries, tokens):
    """Keys and blocks of hidden units alone, values with outputs; every weight is the same after some steps."""
    model = make()
    width = model.config.head_dim or 6
    plain = Plain(model)
    paths = [f"model.layers.{i}.self_attn" for i in range(2)]
    alone = [f"{path}.{name}_proj" for path in paths for name in ("k", *("q" * queries))]
    for path in paths:
        plain.values_and_outputs(path, width)
    for path in alone:
        plain.alone(path, width)
    blocks = [f"model.layers.{i}.mlp.up_proj" for i in range(2)]
    for path in blocks:
        plain.alone(path, 8)
    before = plain.weights()
    handle = attach(model, adapter("clover", mlp_block=8, queries=queries))
    assert handle.parameter_count == sum(p.numel() for p in plain.trained)
    ours = descend(lambda: loss_of(model(tokens).logits, tokens), list(handle.parameters()), SGD)
    same_descent(ours, descend(lambda: plain.loss(tokens), plain.trained, SGD))

    handle.merge()
    found, expected = dict(model.named_parameters()), plain.weights()
    for path in [*alone, *blocks]:
        assert (expected[f"{path}.weight"] - before[f"{path}.weight"]).abs().max() > 1e-3
        agree(found[f"{path}.weight"].detach(), expected[f"{path}.weight"].detach())
    for path in paths:
        agree(product(found, path, width, 4).detach(), product(expected, path, width, 4).detach())


@pytest.mark.parametrize("kind", ["groups of two", "one key-value head"])
def test_under_grouped_queries_it_reaches_what_the_authors_values_alone_reach(kind, tokens):
    """Any matrices of theirs are some matrices of ours: the bases that they lie between span the same spaces."""
    model = LLAMAS[kind]()
    width = model.config.head_dim or 6
    plain, paths = Plain(model), [f"model.layers.{i}.self_attn" for i in range(2)]
    for path in paths:
        plain.alone(f"{path}.v_proj", width)
    noisy(plain.trained, 0.3)
    handle = attach(model, adapter("clover", mlp_block=0))
    weights = plain.weights()
    for path in paths:
        site = handle.sites[f"{path}.value_output"]
        value = torch.cat([weights[f"{path}.v_proj.weight"], weights[f"{path}.v_proj.bias"][:, None]], dim=1)
        outputs = plain.model.get_submodule(path).o_proj.weight.detach().split(width, dim=1)
        shared = len(outputs) // len(site.outer)
        for head, rows in enumerate(value.split(width)):
            stacked = torch.cat(outputs[head * shared : (head + 1) * shared])
            with torch.no_grad():
                site.core[head] = site.outer[head].T @ stacked @ rows @ site.basis[head].T
    with torch.no_grad():
        answer = model(tokens).logits
        agree(answer, functional_call(plain.model, weights, (tokens,)).logits)
        assert not torch.allclose(answer, plain.model(tokens).logits, atol=1e-3)


def factored(firsts, seconds, width):
    """Equations 1 to 4: of every head, or group, `U`, the matrix that is trained, and `V^T`."""
    shared, found = len(seconds) // len(firsts), []
    for head, first in enumerate(firsts):
        stacked = torch.cat(seconds[head * shared : (head + 1) * shared])
        u, s, vt = torch.linalg.svd(stacked @ first, full_matrices=False)
        found.append((u[:, :width], torch.diag(s[:width]).requires_grad_(), vt[:width]))
    return found


class PlainGPT:
    """A copy of a GPT whose attention is singular values between fixed vectors."""

    def __init__(self, model, transposed):
        self.model, self.transposed, self.pairs = copy.deepcopy(model), transposed, []
        for block in self.model.transformer.h:
            packed, out = block.attn.c_attn.weight.detach(), block.attn.c_proj.weight.detach()
            packed, out = (packed.T, out.T) if transposed else (packed, out)
            whole = torch.cat([packed, block.attn.c_attn.bias.detach()[:, None]], dim=1)
            query, key, value = (part.split(8) for part in whole.split([32, *[(len(whole) - 32) // 2] * 2]))
            self.pairs.append(
                {
                    "query_key": factored(key, [q.T for q in query], 8),
                    "value_output": factored(value, out.split(8, dim=1), 8),
                }
            )

    @property
    def trained(self):
        return [s for pairs in self.pairs for found in pairs.values() for _, s, _ in found]

    def loss(self, tokens):
        weights = {}
        for i, pairs in enumerate(self.pairs):
            shared = 4 // len(pairs["query_key"])
            query = [part.T for u, *_ in pairs["query_key"] for part in u.chunk(shared)]
            out = torch.cat([part for u, *_ in pairs["value_output"] for part in u.chunk(shared)], dim=1)
            whole = torch.cat([*query, *(s @ vt for found in pairs.values() for _, s, vt in found)])
            path, weight = f"transformer.h.{i}.attn", whole[:, :-1]
            weights[f"{path}.c_attn.weight"] = weight.T if self.transposed else weight
            weights[f"{path}.c_attn.bias"] = whole[:, -1]
            weights[f"{path}.c_proj.weight"] = out.T if self.transposed else out
        return loss_of(functional_call(self.model, weights, (tokens,)).logits, tokens)


@pytest.mark.parametrize("optimizer", [SGD, ADAMW])
@pytest.mark.parametrize("make", [tiny_gpt2, one_key_value_head])
def test_without_rotation_it_trains_as_singular_values_between_fixed_vectors(make, optimizer, tokens):
    """Section 3 and appendix A.1 for both pairs; GPT-2 stores its weights transposed, and the other shares one head."""
    model = lively(make())
    plain = PlainGPT(model, transposed=make is tiny_gpt2)
    handle = attach(model, adapter("clover", mlp_block=0))
    same_descent(
        descend(lambda: loss_of(model(tokens).logits, tokens), list(handle.parameters()), optimizer),
        descend(lambda: plain.loss(tokens), plain.trained, optimizer),
    )
    for i, pairs in enumerate(plain.pairs):
        for name, found in pairs.items():
            site = handle.sites[f"transformer.h.{i}.attn.{name}"]
            for head, (u, s, vt) in enumerate(found):
                agree((site.outer[head] @ site.core[head] @ site.basis[head]).detach(), (u @ s @ vt).detach())
