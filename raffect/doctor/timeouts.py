"""Answers that may not come: what is asked has a time limit, and a failure is an answer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from raffect.doctor.findings import one_line

T = TypeVar("T")


@dataclass(frozen=True)
class Answer(Generic[T]):
    """What a question brought: a value, or why there is none."""

    value: T | None = None
    problem: str = ""


@dataclass(frozen=True)
class Patience:
    """How long is waited for what may hang, in seconds.

    Attributes:
        knock: For the cluster to answer at all; importing Ray takes some of it.
        start: For a process to start on a node.
        look: For what is read from the system.
        gpus: For torch; its first import from a network disk takes a minute.
        store: For the store's own time-outs and retries.
    """

    knock: float = 45.0
    start: float = 60.0
    look: float = 30.0
    gpus: float = 120.0
    store: float = 180.0


def late(seconds: float) -> str:
    """What is said of an answer that did not come."""
    return f"no answer in {seconds:.0f} s"


def within(seconds: float, function: Callable[..., T], *arguments: object) -> Answer[T]:
    """Call a function; give it up after some seconds, e.g. when a network disk hangs."""
    answers: list[Answer[T]] = []

    def call() -> None:
        try:
            answers.append(Answer(function(*arguments)))
        except Exception as error:
            answers.append(Answer(problem=one_line(error)))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    return answers[0] if answers else Answer(problem=late(seconds))
