"""What a trial ran on."""

from __future__ import annotations

import platform
from typing import Any

import torch
import transformers

from adapterlab.lab.trial.worker_config import current


def environment() -> dict[str, Any]:
    """Versions and machine of this process."""
    device = torch.device(current().device)
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
