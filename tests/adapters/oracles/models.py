"""Models for comparisons to the last digit: nothing in them rounds, and every part of them matters."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tests.adapters.methods import noisy


def lively(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model in float64, with biases, and with weights so large that heads attend to something.

    LLaMA's own norm rounds to float32 in a model of any dtype, so that the order of a sum would show; torch's does not.
    """
    for parent in list(model.modules()):
        for name, norm in parent.named_children():
            if isinstance(norm, LlamaRMSNorm):
                exact = nn.RMSNorm(len(norm.weight), eps=norm.variance_epsilon)
                exact.weight = norm.weight
                setattr(parent, name, exact)
    model = model.double()
    noisy(model.parameters(), 0.2)
    return model


def loss_of(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the mean loss of each next token; transformers would round the logits to float32 first."""
    return cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
