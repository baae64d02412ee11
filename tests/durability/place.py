"""Where a run takes place: an S3 server that may be killed, a filled store, a head's own disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from raffect.store import Store
from raffect.testing.s3 import DurableS3Server, environment, start_durable_s3_server
from tests.durability import driver, processes
from tests.durability.command import ROOT, Command
from tests.sweep import tiny


@dataclass
class Place:
    """One run's surroundings.

    Attributes:
        folder: All that the run leaves on this machine; its name is the mark of its processes.
        server: The S3 server.
        store: The filled store.
        address: The Ray cluster of the commands; none: each starts Ray for itself.
        commands: Those given so far.
    """

    folder: Path
    server: DurableS3Server
    store: Store
    address: str | None = None
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
        return {
            **self.server.environment(),
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
        arguments = [self.store.uri, str(self.folder / "space.py")]
        command = Command(
            [*arguments, self.address] if self.address else arguments,
            {**os.environ, **self.variables()},
            self.folder / f"command-{len(self.commands) + 1}.log",
        )
        self.commands.append(command)
        return command

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
    try:
        with environment(server.environment()):
            store = tiny.fill(Store(f"s3://{server.new_bucket()}/store"), (driver.TASK,))
            yield Place(folder, server, store)
    finally:
        processes.kill_marked(folder.name)
        server.stop()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
