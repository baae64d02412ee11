"""Facts about machines, clusters and stores, without a judgement; they travel between nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Disk:
    """A file system, in bytes."""

    path: str
    total: int
    free: int


@dataclass(frozen=True)
class Token:
    """Where a process finds Ray's token (a variable or a file), never the token itself.

    Attributes:
        mode: RAY_AUTH_MODE, empty where it is not set.
        source: The variable's name or the file's path; empty where there is no token.
        permissions: Mode bits of the file.
    """

    mode: str
    source: str
    permissions: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Machine:
    """What a process on a machine may use; sizes in bytes.

    Attributes:
        cores: Logical cores of the machine.
        usable: Cores that this process gets, by its affinity and its container's quota.
        memory: Free memory within the container's limit.
        shared: Size of /dev/shm.
        open_files: Limit per process, after Ray has raised what it may raise.
        threads: OMP_NUM_THREADS, empty where it is not set.
        variables: Environment variables that decide how S3 is reached; no credentials.
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
        built_for: The CUDA (or HIP) version that torch was built for; empty: CPUs only.
        driver: The newest CUDA version that the driver supports; empty if it did not say.
        present: GPUs that the system shows, whether torch sees them or not.
        problem: Why torch sees none, in torch's own words.
    """

    torch: str = ""
    built_for: str = ""
    driver: str = ""
    present: int = 0
    devices: tuple[Gpu, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class StoreAction:
    """One request to the store: how long it took, or why it failed."""

    action: str
    milliseconds: float
    problem: str = ""
    next_step: str = ""


@dataclass(frozen=True)
class StoreVisit:
    """How the store behaved from one place.

    Attributes:
        actions: In order, up to the first that failed, and `delete` if anything was written.
        saw_note: Whether the driver's note was there; None where none was left.
        skew: Seconds that the store's server is ahead of this machine; None for a folder.
    """

    actions: tuple[StoreAction, ...]
    saw_note: bool | None = None
    skew: float | None = None


@dataclass(frozen=True)
class Features:
    """Features in the store: bytes that a sweep loads into each node's object store."""

    name: str
    size: int


@dataclass(frozen=True)
class Offset:
    """Seconds that a node's clock is ahead of the driver's, and their uncertainty."""

    seconds: float
    error: float


@dataclass(frozen=True)
class Access:
    """A cluster's answer to a request for its versions.

    Attributes:
        answer: `open`, `refused` (it wants a token that was not given) or `silent`.
        text: What it said instead.
    """

    answer: str
    text: str = ""
    ray: str = ""
    python: str = ""
