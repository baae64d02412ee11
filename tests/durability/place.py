"""Where a run takes place: an S3 server that may be killed, a filled store, a head's own disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from raffect.store import Store
from raffect.testing.s3 import S3Server, environment, start_durable_s3_server
from tests.durability import driver, processes
from tests.durability.command import ROOT, Command
from tests.sweep import tiny


@dataclass
class Place:
    """One run's surroundings.

    Attributes:
        folder: All that the run leaves on this machine; its name is the mark of its processes.
        server: The S3 server; None where the store is a folder.
        store: The filled store.
        address: The Ray cluster of the commands; none: each starts Ray for itself.
        command: What is given, of raffect's; none: the sweep of driver.py.
        endpoint: Of a wire to the server.
        commands: Those given so far.
    """

    folder: Path
    server: S3Server | None
    store: Store
    address: str | None = None
    command: Sequence[str] = ()
    endpoint: str | None = None
    commands: list[Command] = field(default_factory=list)

    @property
    def mark(self) -> str:
        """What the run's processes have in their environment."""
        return self.folder.name

    @property
    def head(self) -> Path:
        """The disk of the machine that runs the command."""
        return self.folder / "head"

    def variables(self) -> dict[str, str]:
        """Environment of the run's processes: all that they leave lies on the head's disk."""
        self.head.mkdir(exist_ok=True)
        reached = {"AWS_ENDPOINT_URL": self.endpoint} if self.endpoint else {}
        return {
            **(self.server.environment() if self.server else {}),
            **reached,
            processes.MARK: self.mark,
            "HOME": str(self.head),
            "TMPDIR": str(self.head),
            # Sockets lie in it, whose names must be short.
            "RAY_TMPDIR": str(self.head),
            "RAY_AUTH_MODE": "disabled" if self.address else "token",
            "RAY_USAGE_STATS_ENABLED": "0",
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        }

    def give_command(self) -> Command:
        """The same command as ever."""
        sweep = ["tests.durability.driver", self.store.uri, str(self.folder / "space.py")]
        words = ["raffect", *self.command] if self.command else sweep
        address = {"RAY_ADDRESS": self.address} if self.address else {}
        command = Command(
            ["-m", *words],
            {**os.environ, **self.variables(), **address},
            self.folder / f"command-{len(self.commands) + 1}.log",
        )
        self.commands.append(command)
        return command

    def workers(self, pids: list[int]) -> list[int]:
        """Those that do the command's work: the trials of a sweep, all of Ray's otherwise."""
        return (processes.ray_workers if self.command else processes.trial_actors)(pids)

    def end(self) -> None:
        """End what it has started."""
        processes.kill_marked(self.mark)
        if self.server:
            self.server.stop()

    def lose_disk(self) -> None:
        """The head comes back with an empty disk."""
        shutil.rmtree(self.head, ignore_errors=True)


@contextmanager
def prepared(keep: bool = False) -> Iterator[Place]:
    """A new place; what it started is killed and what it left is deleted afterwards.

    Args:
        keep: Leave the folder, to be looked at.
    """
    folder = Path(tempfile.mkdtemp(prefix="rd-"))
    (folder / "s3").mkdir()
    (folder / "space.py").write_text(driver.SPACE, encoding="utf-8")
    server = start_durable_s3_server(folder / "s3")
    place = Place(folder, server, Store(f"s3://{server.new_bucket()}/store"))
    try:
        with environment(server.environment()):
            tiny.fill(place.store, (driver.TASK,))
            yield place
    finally:
        place.end()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
