"""Uses the store as a sweep does, from here, and leaves it as it was."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from pathlib import Path

from raffect.doctor.facts import Features, StoreAction, StoreVisit
from raffect.doctor.findings import one_line, redact
from raffect.errors import NotThereError, RaffectError
from raffect.store import Store, features_folder, read_manifest
from raffect.store.filesystem import CONNECT_TIMEOUT_S
from raffect.store.layout import FEATURES

NOTE = "note"


def new_folder() -> str:
    """A folder that only one examination writes to."""
    return f"doctor-{uuid.uuid4().hex}"


def visit_store(uri: str, folder: str, who: str, note: str | None = None) -> StoreVisit:
    """Write, read, list, create twice and delete below `folder/who`; look for the driver's note.

    The folder is the examination's own; `note` is what the driver left there, None if nothing.
    """
    store = Store(uri).hurried()
    with left_as_found(store, folder):
        saw = None
        if note is not None:
            saw = False
            # If that fails, the actions say what is wrong with this store.
            with suppress(RaffectError, OSError):
                saw = store.read_bytes(f"{folder}/{NOTE}") == note.encode()
        actions = _use(store, f"{folder}/{who}")
    return StoreVisit(tuple(actions), saw, None if store.is_local else server_skew(endpoint()))


@contextmanager
def left_note(uri: str, folder: str) -> Iterator[str]:
    """Leave a note for the nodes during a block, and delete the examination's folder after it."""
    store = Store(uri).hurried()
    note = uuid.uuid4().hex
    with left_as_found(store, folder):
        try:
            store.write_bytes(f"{folder}/{NOTE}", note.encode())
            yield note
        finally:
            with suppress(RaffectError, OSError):
                store.delete(folder)


@contextmanager
def left_as_found(store: Store, folder: str) -> Iterator[None]:
    """Remove the folders of a local store that a block has made and left empty."""
    target = Path(store.path(folder))
    places = (target, *target.parents) if store.is_local else ()
    missing = [place for place in places if not place.exists()]
    try:
        yield
    finally:
        for place in missing:
            with suppress(OSError):
                place.rmdir()


def read_features(store: Store, name: str | None) -> Features | None:
    """The size of some features, or of the largest in the store; None where there are none.

    Raises:
        NotThereError: There are none of that name.
    """
    if name is not None:
        return _size_of(store, name)
    found = []
    for other in store.names(FEATURES):
        with suppress(NotThereError):
            found.append(_size_of(store, other))
    return max(found, key=lambda features: features.size, default=None)


def endpoint() -> str:
    """Where requests to the bucket go, by botocore's rules."""
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return named or f"https://s3.{region}.amazonaws.com"


def server_skew(url: str) -> float | None:
    """Seconds that a server is ahead of this machine, to about a second; None if unknown.

    Every HTTP response carries the server's time, a refusal too.
    """
    before = time.time()
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=CONNECT_TIMEOUT_S) as answer:
            said = answer.headers.get("Date")
    except urllib.error.HTTPError as error:
        said = error.headers.get("Date")
    except (OSError, ValueError):
        return None
    after = time.time()
    if not said:
        return None
    # The server cuts off the fraction of its second.
    return parsedate_to_datetime(said).timestamp() + 0.5 - (before + after) / 2


def _size_of(store: Store, name: str) -> Features:
    files = read_manifest(store, features_folder(name)).files
    return Features(name, sum(file.size for file in files if file.name.endswith(".parquet")))


def _use(store: Store, own: str) -> list[StoreAction]:
    # About a small model.
    data = os.urandom(1 << 20)
    actions: dict[str, Callable[[], str | None]] = {
        # The first request also makes clients and finds credentials: timed apart.
        "connect": lambda: _list(store, own, []),
        "write": lambda: store.write_bytes(f"{own}/data", data),
        "read": lambda: None if store.read_bytes(f"{own}/data") == data else "it read other bytes",
        "list": lambda: _list(store, own, ["data"]),
        "conditional": lambda: _create_twice(store, f"{own}/lock"),
    }
    done: list[StoreAction] = []
    for action, do in actions.items():
        done.append(_timed(action, do))
        if done[-1].problem:
            break
    # Always, as a write that failed may have arrived; reported only after one that did not fail.
    deleted = _timed("delete", lambda: store.delete(own))
    wrote = any(one.action == "write" and not one.problem for one in done)
    return [*done, deleted] if wrote else done


def _list(store: Store, folder: str, expected: list[str]) -> str | None:
    found = store.names(folder)
    return None if found == expected else f"it lists {len(found)} names of {len(expected)}"


def _create_twice(store: Store, key: str) -> str | None:
    if not store.create(key, b"first"):
        return "the first writer was refused"
    if store.create(key, b"second") or store.read_bytes(key) != b"first":
        why = "" if store.is_local else ": the server ignores If-None-Match"
        return f"the second writer was let in{why}"
    return None


def _timed(action: str, do: Callable[[], str | None]) -> StoreAction:
    began = time.perf_counter()
    next_step = ""
    try:
        problem = do()
    except RaffectError as error:
        problem, next_step = redact(error.got), redact(error.next_step)
    except Exception as error:
        problem = one_line(error)
    return StoreAction(action, 1000 * (time.perf_counter() - began), problem or "", next_step)
