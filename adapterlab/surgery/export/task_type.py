"""PEFT's name for the kind of a model's head, from the model's class.

>>> from transformers import LlamaConfig, LlamaForCausalLM
>>> shape = {"vocab_size": 32, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
>>> task_type_of(LlamaForCausalLM(LlamaConfig(**shape, num_attention_heads=2)))
'CAUSAL_LM'
"""

from __future__ import annotations

from torch import nn
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

TASK_TYPES = {
    "CAUSAL_LM": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "SEQ_CLS": MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "TOKEN_CLS": MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    "QUESTION_ANS": MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
    "SEQ_2_SEQ_LM": MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
}
"""transformers' classes of models by PEFT's name for the kind of head."""


def task_type_of(model: nn.Module) -> str | None:
    """Return PEFT's name for the kind of a model's head, or None if it has no name for it.

    Args:
        model: A model of transformers, or any other.
    """
    name = type(model).__name__
    return next((kind for kind, classes in TASK_TYPES.items() if name in classes.values()), None)
