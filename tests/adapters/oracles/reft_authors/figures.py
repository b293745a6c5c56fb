"""What the authors' package gives for fixed inputs; runs in its environment, which has nothing of this project.

Inputs come from Python's own generator, which gives the same numbers in every version.
"""

from __future__ import annotations

import json
import random
from typing import Any

import torch
from torch import Tensor

WIDTH, RANK = 12, 3
CASES = {"loreft": "LoreftIntervention", "direft_orthonormal": "DireftIntervention", "direft": "NodireftIntervention"}
PROMPTS = [(3, 2, 9), (2, 0, 5), (0, 3, 6), (4, 4, 8), (5, 5, 6)]
"""Positions at the start, at the end, and length of a prompt."""
SHAPE = {
    "vocab_size": 11,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 16,
}
LAYERS, TOKENS = (0, 2), [[3, 1, 4, 1, 5, 9, 2], [6, 5, 3, 5, 8, 9, 7]]


def numbers(name: str, *shape: int) -> Tensor:
    """Normal numbers that belong to `name`, in float64."""
    drawn = random.Random(name)
    count = int(torch.Size(shape).numel())
    return torch.tensor([drawn.gauss(0, 0.5) for _ in range(count)], dtype=torch.float64).reshape(shape)


def fill(model: torch.nn.Module) -> None:
    """Give every parameter of `model` the numbers that belong to its name."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(numbers(name, *parameter.shape))


def orthonormal(name: str, width: int, rank: int) -> Tensor:
    """A matrix `(width, rank)` with orthonormal columns."""
    return torch.linalg.qr(numbers(name, width, rank))[0]


def intervention(variant: str, name: str, width: int, rank: int) -> Any:
    """The authors' module with the numbers that belong to `name`."""
    import pyreft

    kind = getattr(pyreft.interventions, CASES[variant])
    module = kind(embed_dim=width, low_rank_dimension=rank, dtype=torch.float64, add_bias=False).double()
    with torch.no_grad():
        module.learned_source.weight.copy_(numbers(f"{name}.w", rank, width))
        module.learned_source.bias.copy_(numbers(f"{name}.b", rank))
    if variant == "direft":
        module.proj_layer.weight.data = numbers(f"{name}.r", width, rank).T.clone()
    else:
        module.rotate_layer.weight = orthonormal(f"{name}.r", width, rank)
    return module


def edited(variant: str) -> dict[str, Any]:
    """The answer to fixed hidden states and the gradients of a fixed sum of it."""
    module = intervention(variant, variant, WIDTH, RANK)
    hidden = numbers("hidden", 2, 4, WIDTH).requires_grad_()
    with torch.nn.utils.parametrize.cached():
        r = module.proj_layer.weight.T if variant == "direft" else module.rotate_layer.weight
        r.retain_grad()
        answer = module(hidden)
        if variant == "direft":
            r = module.proj_layer.weight
    (answer * numbers("toward", 2, 4, WIDTH)).sum().backward()
    return {
        "answer": answer.tolist(),
        "hidden": hidden.grad.tolist(),
        "w": module.learned_source.weight.grad.tolist(),
        "b": module.learned_source.bias.grad.tolist(),
        "r": (r.grad if variant == "direft" else r.grad.T).tolist(),
    }


def positions(start: int, end: int, length: int) -> list[int]:
    """The positions of a prompt that the authors' data sets have edited."""
    from pyreft.dataset import get_intervention_locations

    found = get_intervention_locations(
        last_position=length, first_n=start, last_n=end, num_interventions=1, share_weights=True
    )
    return sorted(p for p in found[0] if p >= 0)


def logits() -> list[Any]:
    """A small Llama with LoReFT on two of its layers, at the first two positions and the last."""
    import pyreft
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(**SHAPE)).double().eval()
    fill(model)
    config = pyreft.ReftConfig(
        representations=[
            {
                "layer": layer,
                "component": "block_output",
                "low_rank_dimension": 2,
                "intervention": intervention("loreft", f"layer {layer}", SHAPE["hidden_size"], 2),
            }
            for layer in LAYERS
        ]
    )
    adapted = pyreft.get_reft_model(model, config)
    where = [[positions(2, 1, 7)] * 2] * len(LAYERS)
    _, answer = adapted({"input_ids": torch.tensor(TOKENS)}, unit_locations={"sources->base": (None, where)})
    return answer.logits.tolist()


def main() -> None:
    """Print all of it as JSON."""
    found = {
        "edited": {variant: edited(variant) for variant in CASES},
        "positions": [positions(*prompt) for prompt in PROMPTS],
        "logits": logits(),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
