"""What the sweeps of several tasks in one command share."""

from __future__ import annotations

from collections.abc import Sequence

from raffect.affwild2.folds import load_fold
from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.sweep.ledger import Ledger
from raffect.sweep.processes import Prestarted
from raffect.temporal.rows import ReadFeatures
from raffect.temporal.shared import read_once, shared_reader


class Together:
    """Features, read once, and processes: a sweep's begin in slots that the one before has left.

    Attributes:
        read: How the sweeps read features.
        ahead: Whether another sweep follows the present one.
    """

    def __init__(self, read: ReadFeatures, ahead: bool = False) -> None:
        self.read = read
        self.ahead = ahead
        self._begun: Prestarted | None = None

    @classmethod
    def of(
        cls, store: Store, tasks: Sequence[Task], fold: str | None, address: str | None
    ) -> Together:
        """That of sweeps of these tasks, one after the other."""
        read = shared_reader(address)
        if len(tasks) < 2:
            return cls(read)
        return cls(
            read_once(read, {name for task in tasks for name in load_fold(store, task, fold)})
        )

    def take(self, count: int) -> Prestarted:
        """The processes of a sweep that begins."""
        begun, self._begun = self._begun or Prestarted(count), None
        return begun

    def look_ahead(self, ledger: Ledger, count: int) -> None:
        """Begin those of the next sweep where a slot has no trial any more; asked often."""
        if not self.ahead or self._begun is not None or len(ledger.live) >= count:
            return
        if not ledger.study.remaining:
            self._begun = Prestarted(count)
