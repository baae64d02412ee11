"""What torch sees of GPUs, as JSON: a script of its own (gpus.py runs it).

A broken driver may hang or kill the process that asks it, and asking takes some of the GPUs'
memory for as long as that process lives. Needs nothing but torch.
"""

from __future__ import annotations

import importlib
import json
from typing import Any


def look() -> dict[str, Any]:
    """The fields of `facts.Gpus` that torch knows; devices as dictionaries."""
    try:
        torch: Any = importlib.import_module("torch")
    except Exception as error:
        return {"problem": f"torch can't be imported: {type(error).__name__}: {error}"}
    found: dict[str, Any] = {
        "torch": str(torch.__version__),
        "built_for": torch.version.cuda or getattr(torch.version, "hip", None) or "",
        "driver": _driver(torch),
        "devices": [],
    }
    try:
        torch.cuda.init()
    except Exception as error:
        # What it advises beyond the first sentence is for a machine that has a GPU.
        return {**found, "problem": str(error).split(". ")[0]}
    found["devices"] = [_device(torch, number) for number in range(torch.cuda.device_count())]
    return found


def _driver(torch: Any) -> str:
    try:
        number = int(torch._C._cuda_getDriverVersion())
    except Exception:
        # A build for CPUs or for HIP has no such function.
        return ""
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""


def _device(torch: Any, number: int) -> dict[str, Any]:
    found = {"name": torch.cuda.get_device_name(number), "total": 0, "free": 0, "problem": ""}
    try:
        found["free"], found["total"] = torch.cuda.mem_get_info(number)
        # Kernels for another generation of GPUs are missed only when one is called.
        twos = torch.ones(8, device=f"cuda:{number}") * 2
        if float(twos.sum()) != 16:
            found["problem"] = "it calculates wrongly"
    except Exception as error:
        found["problem"] = str(error)
    return found


if __name__ == "__main__":
    print(json.dumps(look()))
