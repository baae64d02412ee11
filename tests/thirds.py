"""Which third of the tests marked `long` a commit's CI runs: three commits in a row run them all.

`python -m tests.thirds` prints it. The third follows from the number of commits; in a shallow
clone, which does not know that number, from the commit's own hash.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

THIRDS = 3
T = TypeVar("T")


def third_of(items: Sequence[T], third: int) -> list[T]:
    """Every third item, from the given one on: neighbours in a file take about the same time."""
    return list(items[third % THIRDS :: THIRDS])


def third_of_commit(repository: Path) -> int:
    """The third that the checked-out commit runs; 0 outside a repository."""
    if git(repository, "rev-parse", "--is-shallow-repository") == "true":
        return int(git(repository, "rev-parse", "HEAD") or "0", 16) % THIRDS
    return int(git(repository, "rev-list", "--count", "HEAD") or "0") % THIRDS


def git(repository: Path, *arguments: str) -> str:
    """What git says; nothing where it can't be asked."""
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments], capture_output=True, text=True
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    print(third_of_commit(Path(__file__).parent))
