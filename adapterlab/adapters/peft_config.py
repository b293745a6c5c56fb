"""Config classes of PEFT whose methods can be attached by changing layers of a model.

>>> config_class("HIRA").__name__, "PROMPT_TUNING" in peft_types()
('HiraConfig', False)
"""

from __future__ import annotations

from typing import Any

from adapterlab.errors import AdapterlabError, UnknownNameError

PREFIX = "peft:"
"""Start of the names of PEFT's methods."""


def config_class(peft_type: str, where: str = "") -> Any:
    """Return PEFT's config class of a method that can be injected into a model.

    Args:
        peft_type: PEFT's name of the method.
        where: File or option in which the name was given, for the error message.

    Raises:
        AdapterlabError: If PEFT is not installed, or the method needs more than layers in the model.
        UnknownNameError: If PEFT has no such method.
    """
    try:
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
        from peft.tuners.tuners_utils import BaseTuner
    except ImportError as error:
        raise AdapterlabError(
            f"{PREFIX}{peft_type} needs PEFT, which is not installed: pip install 'adapterlab[peft]'"
        ) from error
    configs = {str(kind.value): config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    tuners = {str(kind.value): tuner for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items()}
    if peft_type not in configs:
        raise UnknownNameError("PEFT method", peft_type, configs, where)
    tuner = tuners.get(peft_type)
    if tuner is None or not issubclass(tuner, BaseTuner) or tuner.forward is not BaseTuner.forward:
        raise AdapterlabError(
            f"{PREFIX}{peft_type}{f' in {where}' if where else ''} needs more of PEFT than layers in the model, so it "
            "cannot be attached here: use a method of adapterlab, such as adalora, poly, xlora, prompt or prefix"
        )
    return configs[peft_type]


def peft_types() -> list[str]:
    """Return PEFT's names of the methods that can be injected into a model.

    Raises:
        AdapterlabError: If PEFT is not installed.
    """
    config_class("LORA")
    from peft import PeftType

    found = []
    for kind in PeftType:
        try:
            config_class(str(kind.value))
        except AdapterlabError:
            continue
        found.append(str(kind.value))
    return found
