"""What a Ray that is started here does without, as Ray has no switch for it.

ray.init() starts an API server (which loads nothing but usage statistics, that are off), an
autoscaler for a cluster that can't grow, and a reader of logs that nobody asked for: 1.7 s of CPU
time and half of its start; and at the end it waits for one after the other, for a second each.
"""

from __future__ import annotations

import atexit
import inspect
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import ray
from ray._private import node, parameter

_UNWANTED = {"no_monitor": True, "include_log_monitor": False}


@contextmanager
def replaced(owner: object, **values: object) -> Iterator[None]:
    """Give names of Ray's own other values; those that another Ray does not have are left out."""
    before = {name: getattr(owner, name) for name in values if hasattr(owner, name)}
    for name in before:
        setattr(owner, name, values[name])
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


@contextmanager
def lean_start() -> Iterator[None]:
    """A block in which ray.init() starts what runs tasks, and nothing beside it."""
    with ExitStack() as stack:
        if (kind := getattr(parameter, "RayParams", None)) is not None:
            known = inspect.signature(kind).parameters
            unwanted = {name: value for name, value in _UNWANTED.items() if name in known}
            stack.enter_context(replaced(parameter, RayParams=partial(kind, **unwanted)))
        if (of := getattr(node, "Node", None)) is not None:
            stack.enter_context(replaced(of, start_api_server=lambda self, **options: None))
        yield


def end_with_process() -> None:
    """Leave Ray before its own hook at exit does, which sleeps for what workers may yet print."""
    atexit.unregister(_leave)
    atexit.register(_leave)


def _leave() -> None:
    ray.shutdown()
