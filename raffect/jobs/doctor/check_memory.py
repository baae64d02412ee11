"""Checks of the object store, where a sweep puts its features once per node."""

from __future__ import annotations

from raffect.jobs.doctor.facts import Features, Machine
from raffect.jobs.doctor.findings import Finding, failed, passed, size, warned

_SHARE, _CAP, _WITHOUT_SHM = 0.3, 200 * 10**9, 10**10
_ROOMY = 0.8
_AFFWILD2 = 4 * 10**9
"""2.6 million frames of 768 values in two bytes each."""
_BY_RAFFECT = (
    "RAY_DEFAULT_OBJECT_STORE_MEMORY_PROPORTION=0.6 in the environment makes it twice as large."
)


def estimate_object_store(machine: Machine) -> int:
    """Bytes of the object store that Ray would make here by itself (its own rule)."""
    cap = min(_CAP, max(_WITHOUT_SHM, int(0.95 * machine.shared)))
    return min(int(_SHARE * machine.memory), cap)


def check_object_store(
    capacity: int, features: Features | None, free_disk: int, running: bool
) -> Finding:
    """Compare a node's object store with the features.

    Args:
        capacity: Bytes of the object store.
        features: Those of a sweep to come; None where there are none yet.
        free_disk: Bytes left where Ray puts what does not fit.
        running: Whether it runs, rather than being what Ray would make.
    """
    name = "object store"
    text = size(capacity) if running else f"{size(capacity)} if Ray starts now"
    if features is None:
        small = f"; those of all Aff-Wild2 take {size(_AFFWILD2)}" if capacity < _AFFWILD2 else ""
        return passed(name, f"{text}; no features in the store yet{small}")
    text = f"{text}; features {features.name!r} take {size(features.size)}"
    enough = int(1.5 * features.size)
    step = f"ray start --object-store-memory={enough}" if running else _BY_RAFFECT
    if features.size > capacity and features.size > free_disk:
        return failed(name, f"{text}, more than it and the disk hold", step)
    if features.size > capacity:
        return warned(name, f"{text}: the rest goes to the disk, and trials are slow", step)
    if features.size > _ROOMY * capacity:
        return warned(name, f"{text}: little is left for anything else", step)
    return passed(name, text)


def check_shared_memory(shared: int, capacity: int) -> Finding:
    """Check that the object store fits into /dev/shm; else Ray keeps it on the disk."""
    text = f"{size(shared)} for an object store of {size(capacity)}"
    if shared < capacity:
        return warned(
            "/dev/shm",
            f"{text}: Ray keeps it on the disk instead, which is slow",
            "Give the container more: docker run --shm-size; on Kubernetes an emptyDir in memory.",
        )
    return passed("/dev/shm", text)
