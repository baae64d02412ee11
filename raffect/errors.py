"""Errors that a user can fix: what was got, what is allowed, what to do next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any


class RaffectError(Exception):
    """A user's mistake, or a fault of their environment; the CLI prints it and exits with 2.

    It says what was found in the user's own terms, what would have been accepted, what to do now.
    """

    exit_code = 2

    def __init__(self, got: str, allowed: str = "", next_step: str = "") -> None:
        super().__init__(got, allowed, next_step)
        self.got = got
        self.allowed = allowed
        self.next_step = next_step

    def __str__(self) -> str:
        parts = [self.got]
        if self.allowed:
            parts.append(f"Allowed: {self.allowed}")
        if self.next_step:
            parts.append(f"Next: {self.next_step}")
        return "\n".join(parts)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.got, self.allowed, self.next_step)


class SettingsError(RaffectError):
    """A setting has an unknown name, a wrong type or a value out of range."""


class DataError(RaffectError):
    """A file of the dataset, of predictions or of an example is not what it should be."""


class StoreError(RaffectError):
    """The store can't be reached, read or written."""


class StoreAwayError(StoreError):
    """The store's server does not answer now, and may again.

    Attributes:
        why: In a few words.
    """

    why = "no answer"

    def because(self, why: str) -> StoreAwayError:
        """The error itself."""
        self.why = why
        return self


class DamagedError(StoreError):
    """A file of the store is not as it was written; trying again does not help."""


class NotThereError(RaffectError):
    """A command needs something that an earlier command has not made yet."""


class ConflictError(RaffectError):
    """A name is taken by something made with other settings."""


class LostWorkError(RaffectError):
    """A process or a node that did the work ended, by nothing that a user did."""


def find_user_error(error: BaseException | None) -> RaffectError | None:
    """The RaffectError in a chain of causes, also below the wrappers of Ray's remote errors."""
    return next((one for one in causes_of(error) if isinstance(one, RaffectError)), None)


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """An error and its causes, each without the wrapper of Ray's remote errors."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        cause = getattr(error, "cause", None)
        if isinstance(cause, BaseException):
            # RayTaskError is raised as a subclass of its cause, with a traceback as its text.
            error = cause
        else:
            yield error
            error = error.__cause__ or error.__context__


def outcome_of(work: Callable[[], object]) -> dict[str, Any]:
    """A row of Ray Data with what a task or actor made, or with the user's error that it met.

    Raised there, Ray Data would print an error as a fault of the program, in hundreds of lines,
    and one in an actor's constructor would lose its cause: actors begin in their first call.
    """
    try:
        return {"outcome": work()}
    except RaffectError as error:
        return {"outcome": error}


def outcomes(rows: Iterable[Mapping[str, Any]]) -> Iterator[Any]:
    """What `outcome_of` has told, as it comes; raises the first error."""
    for row in rows:
        if isinstance(row["outcome"], RaffectError):
            raise row["outcome"]
        yield row["outcome"]
