"""What is examined, and the checks that a lone machine and a cluster's nodes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raffect.jobs.doctor.answers import Answer, Patience
from raffect.jobs.doctor.check_machine import check_disk
from raffect.jobs.doctor.check_memory import check_object_store, check_shared_memory
from raffect.jobs.doctor.facts import Code, Features, Machine
from raffect.jobs.doctor.findings import Finding, failed
from raffect.jobs.doctor.versions import Wanted
from raffect.store import Store


@dataclass(frozen=True)
class Case:
    """What is examined, and what is known before any node is asked.

    Attributes:
        store: The store.
        folder: Of this examination in the store.
        patience: How long to wait for whom.
        wanted: The versions that raffect wants.
        code: The driver's.
        features: Those that a sweep would use; None where there are none.
        machine: The driver's; None where it did not answer.
        usable: Whether the driver can use the store.
    """

    store: Store
    folder: str
    patience: Patience
    wanted: Wanted
    code: Code
    features: Features | None = None
    machine: Machine | None = None
    usable: bool = False

    def disks(self, temporary: str) -> tuple[str, ...]:
        """The paths whose disks matter: Ray's own, and that of a folder store."""
        return (temporary, self.store.path("")) if self.store.is_local else (temporary,)


def check_disks(machine: Machine) -> list[Finding]:
    """Check the disks of `Case.disks`."""
    names = ("temp disk", "store disk")
    return [check_disk(disk, name) for disk, name in zip(machine.disks, names, strict=False)]


def check_memory(
    machine: Machine, capacity: int, features: Features | None, running: bool
) -> list[Finding]:
    """Check an object store and what holds it."""
    return [
        check_object_store(capacity, features, machine.disks[0].free, running),
        check_shared_memory(machine.shared, capacity),
    ]


def unanswered(check: str, answer: Answer[Any]) -> Finding:
    """The finding of a question that brought no value."""
    return failed(check, answer.problem, "See whether that machine or one of its disks hangs.")
