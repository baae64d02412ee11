"""What was seen of a machine: plain facts, without a judgement, that travel between nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """What would run.

    Attributes:
        python: Version of Python.
        raffect: Version of raffect; None where it can't be imported.
        digest: Of raffect's source: a version is the same for many states of a checkout.
        packages: Installed packages by normalised name, with their versions.
    """

    python: str
    raffect: str | None
    digest: str
    packages: Mapping[str, str]


@dataclass(frozen=True)
class Disk:
    """A file system, in bytes."""

    path: str
    total: int
    free: int


@dataclass(frozen=True)
class Token:
    """Ray's token, as a process would find it; never the token itself.

    Attributes:
        mode: RAY_AUTH_MODE, empty where it is not set.
        source: A variable's name or a file's path; empty where there is no token.
        permissions: Of the file, as of chmod; None where there is no file.
        problem: Why the file can't be used.
    """

    mode: str
    source: str
    permissions: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Machine:
    """What a process on a machine may use.

    Attributes:
        cores: Logical cores that the system shows.
        usable: Cores that this process gets: its affinity, its container's share.
        memory: Free memory in bytes, within the container's limit.
        shared: Size of /dev/shm in bytes.
        disks: Of the paths that were asked for.
        open_files: How many a process may have, after Ray has raised what it may raise.
        threads: OMP_NUM_THREADS, empty where it is not set.
        variables: What decides which store is met, and how (no credential).
        token: Ray's token.
    """

    cores: int
    usable: float
    memory: int
    shared: int
    disks: tuple[Disk, ...]
    open_files: int
    threads: str
    variables: Mapping[str, str]
    token: Token


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch sees; bytes. `problem`: why nothing runs on it."""

    name: str
    total: int
    free: int
    problem: str = ""


@dataclass(frozen=True)
class Gpus:
    """What torch and the system say of GPUs.

    Attributes:
        torch: torch's version.
        built_for: The CUDA (or HIP) version that torch was built for; empty: for CPUs only.
        driver: The newest CUDA version that the driver can do; empty if it did not say.
        present: GPUs that the system shows, whatever torch thinks of them.
        devices: GPUs that torch sees.
        problem: Why torch sees none, in torch's own words.
    """

    torch: str = ""
    built_for: str = ""
    driver: str = ""
    present: int = 0
    devices: tuple[Gpu, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Step:
    """One thing done with the store: how long it took, or why it did not work."""

    action: str
    milliseconds: float
    problem: str = ""
    next_step: str = ""


@dataclass(frozen=True)
class StoreVisit:
    """What came of using the store from one place.

    Attributes:
        steps: In order, until one fails, and `delete` if anything was written.
        saw_note: Whether the driver's note was there; None where none was left.
        skew: Seconds that the store's server is ahead of this machine; None for a folder.
    """

    steps: tuple[Step, ...]
    saw_note: bool | None = None
    skew: float | None = None


@dataclass(frozen=True)
class Features:
    """Features in the store: what a sweep brings into each node's object store, in bytes."""

    name: str
    size: int


@dataclass(frozen=True)
class Offset:
    """Seconds that a node's clock is ahead of the driver's, and how far off that may be."""

    seconds: float
    error: float


@dataclass(frozen=True)
class Knock:
    """What came of asking a cluster for its versions.

    Attributes:
        answer: `open`, `refused` (it wants a token that was not given) or `silent`.
        text: What was said instead of an answer.
        ray: The cluster's version of Ray.
        python: The cluster's version of Python.
    """

    answer: str
    text: str = ""
    ray: str = ""
    python: str = ""
