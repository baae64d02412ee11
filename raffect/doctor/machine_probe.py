"""What a process of this machine may use: cores, memory, disks, files, GPUs, Ray's token."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raffect.doctor.facts import Disk, Gpu, Gpus, Machine, Token
from raffect.doctor.findings import one_line, redact
from raffect.doctor.timeouts import ScriptError, run_script
from raffect.environment import store_variables

GPU_SCRIPT = Path(__file__).with_name("gpu_script.py")
_CGROUP = Path("/sys/fs/cgroup")
_RAY_RAISES_TO = 65_536
"""Open files: ray.init() and `ray start` raise the soft limit to this, if the hard one allows."""


def look_at_machine(paths: tuple[str, ...]) -> Machine:
    """What this process may use, with the disks of some paths, which need not exist."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    return Machine(
        cores=os.cpu_count() or 1,
        usable=usable_cores(),
        memory=free_memory(),
        shared=disk_of("/dev/shm").total if Path("/dev/shm").is_dir() else 0,
        disks=tuple(disk_of(path) for path in paths),
        open_files=max(soft, _RAY_RAISES_TO if unlimited else min(hard, _RAY_RAISES_TO)),
        threads=os.environ.get("OMP_NUM_THREADS", ""),
        variables={name: redact(value) for name, value in store_variables().items()},
        token=find_token(),
    )


def look_at_gpus(timeout: float) -> Gpus:
    """What torch, within so many seconds, and the system say of this machine's GPUs."""
    present = len(list(Path("/dev").glob("nvidia[0-9]*")))
    try:
        found: dict[str, Any] = run_script(GPU_SCRIPT, timeout)
    except subprocess.TimeoutExpired:
        return Gpus(present=present, problem=f"torch did not answer in {timeout:.0f} s")
    except ScriptError as error:
        return Gpus(present=present, problem=one_line(f"torch's process ended: {error}"))
    gpus = found.pop("devices", [])
    devices = tuple(Gpu(**{**gpu, "problem": one_line(gpu["problem"])}) for gpu in gpus)
    texts: dict[str, Any] = {name: one_line(text) for name, text in found.items()}
    return Gpus(**texts, present=present, devices=devices)


def usable_cores() -> float:
    """Cores that this process gets: by its affinity, and by its control groups' quotas."""
    cores = float(len(os.sched_getaffinity(0)))
    quotas = [tuple(_read(folder / "cpu.max").split()) for folder in _groups()]
    # Version 1 of control groups.
    quotas.append(tuple(_read(_CGROUP / "cpu" / f"cpu.cfs_{n}_us") for n in ("quota", "period")))
    for quota, period in (pair for pair in quotas if len(pair) == 2):
        # Without a limit the quota is `max`, or -1 in version 1.
        if quota.isdigit() and period.isdigit() and int(period):
            cores = min(cores, int(quota) / int(period))
    return cores


def free_memory() -> int:
    """Bytes that this process may still take, caches counted as free."""
    lines = (line.split() for line in _read(Path("/proc/meminfo")).splitlines())
    kilobytes = {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1}
    free = kilobytes.get("MemAvailable", 0) * 1024
    for folder in _groups():
        most, used = _read(folder / "memory.max"), _read(folder / "memory.current")
        if most.isdigit() and used.isdigit():
            counts = dict(line.split() for line in _read(folder / "memory.stat").splitlines())
            cached = int(counts.get("inactive_file", 0))
            free = min(free, int(most) - int(used) + cached)
    return max(0, free)


def disk_of(path: str) -> Disk:
    """The file system that a path is on, or would be on."""
    place = Path(path).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    found = os.statvfs(place)
    return Disk(path, found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)


def find_token() -> Token:
    """Ray's token, in Ray's order: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, the file in the home."""
    mode = os.environ.get("RAY_AUTH_MODE", "").lower()
    if os.environ.get("RAY_AUTH_TOKEN"):
        return Token(mode, "RAY_AUTH_TOKEN")
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named or Path.home() / ".ray" / "auth_token")
    try:
        permissions = stat.S_IMODE(path.stat().st_mode)
        empty = not path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        # The file in the home is optional, one that was named is not.
        return Token(mode, str(path), None, "there is no such file") if named else Token(mode, "")
    except OSError as error:
        return Token(mode, str(path), None, one_line(error))
    return Token(mode, str(path), permissions, "the file is empty" if empty else "")


def _groups() -> Iterator[Path]:
    """This process's control group (version 2) and its parents, whose limits bind it too."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        number, _, name = line.split(":", 2)
        if number == "0":
            folder = _CGROUP / name.strip("/")
            yield from (folder, *(up for up in folder.parents if up.is_relative_to(_CGROUP)))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
