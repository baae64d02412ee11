"""Checks of a machine: cores, disks, open files, threads, clock, and what decides on the store."""

from __future__ import annotations

import math
from collections.abc import Mapping

from raffect.jobs.doctor.facts import Disk, Machine, Offset
from raffect.jobs.doctor.findings import Finding, failed, passed, size, warned

FULL = 0.95
"""Ray spills nothing to a disk that is fuller than that (RAY_local_fs_capacity_threshold)."""
TIGHT, TOO_TIGHT = 10 << 30, 1 << 30
FEW_FILES = 4096
"""Ray warns below that, too: each worker takes some hundred."""
SKEW_S, TOO_SKEWED_S = 5.0, 900.0
"""S3 refuses signatures that are a quarter of an hour old."""
_NTP = "Set the clock there: NTP (chrony, systemd-timesyncd)."


def check_cores(machine: Machine, counted: float | None) -> Finding:
    """Compare the cores that there are with those that Ray gives away.

    Args:
        machine: The machine.
        counted: Ray's CPUs of the node; None: no Ray runs yet, and it will count for itself.
    """
    usable = f"{machine.usable:g} usable"
    if counted is None:
        share = f" of {machine.cores}" if machine.usable < machine.cores else ""
        return passed("cores", usable + share)
    if counted > math.ceil(machine.usable):
        return warned(
            "cores",
            f"Ray counts {counted:g}, this container or process may use {machine.usable:g}",
            f"Trials share cores: ray start --num-cpus={math.floor(max(1, machine.usable))}.",
        )
    return passed("cores", f"Ray counts {counted:g}, {usable}")


def check_disk(disk: Disk, what: str) -> Finding:
    """Check the space of a disk; `what` it is for is the check's name."""
    text = f"{size(disk.free)} free of {size(disk.total)} at {disk.path}"
    clear = "Delete what is not needed there, or use another disk"
    where = "(ray start --temp-dir, RAY_TMPDIR)" if what == "temp disk" else "(--store)"
    if disk.free < TOO_TIGHT:
        return failed(what, text, f"{clear} {where}.")
    if what == "temp disk" and disk.free < (1 - FULL) * disk.total:
        return warned(what, f"{text}; Ray spills nothing to a disk so full", f"{clear} {where}.")
    if disk.free < TIGHT:
        return warned(what, text, f"{clear} {where}.")
    return passed(what, text)


def check_open_files(count: int) -> Finding:
    """Check how many files a process may open."""
    if count < FEW_FILES:
        return warned("open files", f"at most {count}", "ulimit -n 65536 before Ray starts.")
    return passed("open files", f"up to {count}")


def check_threads(machine: Machine) -> Finding:
    """Check the driver's own threads; workers get theirs from raffect."""
    count = machine.threads.split(",")[0]
    if not count.isdigit():
        return passed("threads", "OMP_NUM_THREADS is not set")
    if int(count) > math.ceil(machine.usable):
        return warned(
            "threads",
            f"OMP_NUM_THREADS={count} on {machine.usable:g} cores: they slow one another down",
            "Unset it, or lower it to the number of cores.",
        )
    return passed("threads", f"OMP_NUM_THREADS={count}")


def check_clock(offset: Offset, signs: bool) -> Finding:
    """Compare a node's clock with the driver's.

    Args:
        offset: Of the node.
        signs: Whether the node signs requests to an S3 server with its time.
    """
    off = max(0.0, abs(offset.seconds) - offset.error)
    text = f"{offset.seconds:+.2f} s to the driver's, to {offset.error:.2f} s"
    return _judge_clock("clock", off, text, signs, "logs and times of trials don't fit together")


def check_server_clock(skew: float) -> Finding:
    """Compare a place's clock with the S3 server's, which says full seconds."""
    text = f"{-skew:+.0f} s to the S3 server's"
    return _judge_clock("S3 clock", max(0.0, abs(skew) - 1), text, True, "it may grow")


def check_variables(
    here: Mapping[str, str], driver: Mapping[str, str] | None = None
) -> Finding | None:
    """Check what decides which S3 server is met, and how; None where nothing does.

    Args:
        here: Names and values on the driver, or on a node.
        driver: For a node: those of the driver.
    """
    if driver is not None:
        return _compare(here, driver)
    odd = [f"{name}={value}" for name, value in here.items() if _asks_for_checksums(name, value)]
    if odd and any(name.startswith("AWS_ENDPOINT_URL") for name in here):
        return warned(
            "environment",
            f"{', '.join(odd)}: many servers that are not AWS answer 411 to that",
            "Unset it: raffect then says when_required.",
        )
    return passed("environment", f"{len(here)} variables for S3") if here else None


def _compare(here: Mapping[str, str], driver: Mapping[str, str]) -> Finding:
    names = sorted({*here, *driver})
    other = [name for name in names if here.get(name) != driver.get(name)]
    if not other:
        return passed("environment", "S3 variables as on the driver")
    text = "; ".join(
        f"{name} is {here.get(name, 'not set')}, on the driver {driver.get(name, 'not set')}"
        for name in other
    )
    step = "Set the same on the driver (it is passed on), or unset it on the node."
    if any(name.startswith("AWS_ENDPOINT_URL") for name in other):
        return failed("environment", text, step)
    return warned("environment", text, step)


def _asks_for_checksums(name: str, value: str) -> bool:
    return "CHECKSUM" in name and value != "when_required"


def _judge_clock(check: str, off: float, text: str, signs: bool, why: str) -> Finding:
    if off > TOO_SKEWED_S and signs:
        return failed(check, f"{text}: S3 refuses requests that are signed so", _NTP)
    if off > SKEW_S:
        return warned(check, f"{text}: {why}", _NTP)
    return passed(check, text)
