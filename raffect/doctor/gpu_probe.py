"""The GPUs of this machine, asked in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from raffect.doctor.facts import Gpu, Gpus
from raffect.doctor.findings import one_line

SCRIPT = Path(__file__).with_name("gpu_script.py")


def look_at_gpus(timeout: float) -> Gpus:
    """What torch and the system say of this machine's GPUs.

    Args:
        timeout: Seconds; the first import of torch from a network disk takes a minute.
    """
    present = len(list(Path("/dev").glob("nvidia[0-9]*")))
    try:
        # -P: what lies beside the script is not to be imported by its plain name.
        done = subprocess.run(
            [sys.executable, "-P", str(SCRIPT)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Gpus(present=present, problem=f"torch did not answer in {timeout:.0f} s")
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        return Gpus(present=present, problem=one_line(f"torch's process ended: {said[0]}"))
    return replace(_parse(found), present=present)


def _parse(found: dict[str, Any]) -> Gpus:
    devices = [Gpu(**device) for device in found.pop("devices", [])]
    texts: dict[str, Any] = {key: one_line(value) for key, value in found.items()}
    devices = [replace(gpu, problem=one_line(gpu.problem)) for gpu in devices]
    return Gpus(**texts, devices=tuple(devices))
