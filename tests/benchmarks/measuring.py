"""Seconds of calls, and what processes hold in memory as Linux tells it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def timed(function: Callable[..., T], *args: Any, **kwargs: Any) -> tuple[float, T]:
    """Seconds of a call, and its value."""
    began = time.perf_counter()
    value = function(*args, **kwargs)
    return time.perf_counter() - began, value


def memory_mb(pid: int | str = "self") -> dict[str, float]:
    """Fields of smaps_rollup (Rss, Pss, Shared_Clean, Private_Dirty, ...) in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    pairs = (line.split(":") for line in lines)
    return {name: float(value.split()[0]) * 1024 / 1e6 for name, value in pairs}


def resident_mb(pid: int | str = "self") -> float:
    """Memory of a process, shared pages included."""
    return memory_mb(pid)["Rss"]


def unique_mb(pid: int | str = "self") -> float:
    """Memory that would be free if the process ended (USS)."""
    found = memory_mb(pid)
    return found["Private_Clean"] + found["Private_Dirty"]


def reset_peak() -> None:
    """Let `peak_mb` forget what was before."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mb() -> float:
    """Most memory that this process had since `reset_peak`."""
    line = Path("/proc/self/status").read_text().partition("VmHWM:")[2]
    return int(line.split()[0]) * 1024 / 1e6


def mapped_mb(pid: int, name: str) -> float:
    """Memory of a process in mappings of files whose path contains a name."""
    total, counts = 0.0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        key = line.split(maxsplit=1)[0]
        if not key.endswith(":"):
            counts = name in line
        elif counts and key == "Rss:":
            total += float(line.split()[1]) * 1024 / 1e6
    return total
