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
    """Where a process finds Ray's token, never the token itself.

    `mode` is RAY_AUTH_MODE, `source` a variable's name or a file's path; empty where not set.
    """

    mode: str
    source: str
    permissions: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class Machine:
    """What a process on a machine may use; sizes in bytes.

    Of the logical `cores` it gets `usable`, by its affinity and its container's quota. `memory` is
    free within the container's limit, `shared` the size of /dev/shm, `open_files` the limit after
    Ray has raised it, `threads` OMP_NUM_THREADS or empty. `variables` decide how S3 is reached and
    hold no credentials.
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
    """What torch and the system say of GPUs; `problem`: why torch sees none, in its own words.

    `built_for` is the CUDA (or HIP) version of torch, empty if for CPUs only; `driver` the newest
    CUDA version that the driver supports. The system shows `present` GPUs, seen by torch or not.
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

    `actions` end with the first that failed, and `delete` if anything was written; `saw_note` is
    None where the driver left none. The server is `skew` seconds ahead; None for a folder.
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
    """A cluster's answer to a request for its versions, or the `text` that it said instead.

    `answer` is `open`, `refused` (it wants a token that was not given) or `silent`.
    """

    answer: str
    text: str = ""
    ray: str = ""
    python: str = ""
