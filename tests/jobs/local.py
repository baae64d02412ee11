"""cluster/local.sh on free ports, and commands typed in a shell that sourced its environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from raffect.testing.ports import free_ports

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "cluster" / "local.sh"
PORTS = ("HEAD", "DASHBOARD", "BOARD", "S3", "PROMETHEUS", "GRAFANA")
SECRETS = ("planted-secret-one", "planted-secret-two")


@dataclass(frozen=True)
class LocalCluster:
    """A cluster on this machine.

    Attributes:
        folder: Where commands are typed; the cluster's own is `raffect-cluster` in it.
        variables: The shell's environment before anything is sourced.
    """

    folder: Path
    variables: dict[str, str]

    def type(self, line: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a line of a shell."""
        env = self.folder / "raffect-cluster" / "env"
        before = f"source {env}; " if env.exists() else ""
        return subprocess.run(
            ["bash", "-c", before + line],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(self, line: str) -> subprocess.Popen[str]:
        """Run a line in the background, in a session of its own."""
        env = self.folder / "raffect-cluster" / "env"
        return subprocess.Popen(
            ["bash", "-c", f"source {env}; exec {line}"],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def files(self) -> Iterator[Path]:
        """Everything that the cluster's processes have written."""
        temporary = Path((self.folder / "raffect-cluster" / "temporary").read_text().strip())
        for top in (self.folder / "raffect-cluster", temporary):
            yield from (path for path in top.rglob("*") if path.is_file())


@contextmanager
def local_cluster(folder: Path) -> Iterator[LocalCluster]:
    """A place to type in, on free ports; whatever is up at the end is taken down."""
    (folder / "cluster").symlink_to(ROOT / "cluster")
    (folder / "tune_spaces").symlink_to(ROOT / "tune_spaces")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "AWS_", "RAFFECT_"))}
    variables = {
        **kept,
        **{
            f"RAFFECT_LOCAL_{name}_PORT": str(port)
            for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True)
        },
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        # In the shell of a user, and nothing that anybody else is to see.
        "AWS_SESSION_TOKEN_BACKUP": SECRETS[0],
        "WANDB_API_KEY": SECRETS[1],
    }
    place = LocalCluster(folder, variables)
    try:
        yield place
    finally:
        if (folder / "raffect-cluster").exists():
            place.type("cluster/local.sh down", timeout=120)
