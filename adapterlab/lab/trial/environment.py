"""Software and hardware that a trial ran on.

>>> sorted(environment(torch.device("cpu")))
['adapterlab', 'device', 'machine', 'python', 'system', 'torch', 'transformers']
"""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

import torch
import transformers


def environment(device: torch.device) -> dict[str, str]:
    """Return the versions of Python and libraries, and the machine.

    Args:
        device: Device that trials run on; a GPU is named by its model.
    """
    try:
        package = version("adapterlab")
    except PackageNotFoundError:  # a worker of a cluster may have the source alone
        package = "unknown"
    return {
        "adapterlab": package,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
    }
