"""Prints as JSON what torch sees of GPUs; machine_probe.py runs it by its path.

A broken driver may hang or kill the process that asks it, and a CUDA context occupies GPU memory
until its process ends. Needs nothing but torch.
"""

from __future__ import annotations

import importlib
import json
from typing import Any


def look() -> dict[str, object]:
    """The fields of `facts.Gpus` that torch knows; devices as dictionaries."""
    try:
        torch: Any = importlib.import_module("torch")
    except Exception as error:
        return {"problem": f"torch can't be imported: {type(error).__name__}: {error}"}
    found: dict[str, object] = {
        "torch": str(torch.__version__),
        "built_for": torch.version.cuda or getattr(torch.version, "hip", None) or "",
        "driver": _driver(torch),
    }
    try:
        torch.cuda.init()
    except Exception as error:
        # The advice after the first sentence is for machines that have a GPU.
        return {**found, "problem": str(error).split(". ")[0]}
    devices = [_device(torch, number) for number in range(torch.cuda.device_count())]
    return {**found, "devices": devices}


def _driver(torch: Any) -> str:
    try:
        number = int(torch._C._cuda_getDriverVersion())
    except Exception:
        # Builds for CPUs and for HIP have no such function.
        return ""
    # 12040 is CUDA 12.4.
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""


def _device(torch: Any, number: int) -> dict[str, object]:
    found = {"name": torch.cuda.get_device_name(number), "total": 0, "free": 0, "problem": ""}
    try:
        found["free"], found["total"] = torch.cuda.mem_get_info(number)
        # A build without kernels for this GPU's generation fails only when one is launched.
        twos = torch.ones(8, device=f"cuda:{number}") * 2
        if float(twos.sum()) != 16:
            found["problem"] = "it calculates wrongly"
    except Exception as error:
        found["problem"] = str(error)
    return found


if __name__ == "__main__":
    print(json.dumps(look()))
