"""Errors reach the user whole, also through Ray's wrappers and pickles."""

from __future__ import annotations

import os
import pickle

import pytest

from raffect.errors import DataError, LostWorkError, RaffectError, find_user_error


def test_an_error_says_got_allowed_and_next():
    text = str(DataError("Got x.", "y", "Do z."))
    assert text == "Got x.\nAllowed: y\nNext: Do z."


def test_an_error_survives_pickling():
    error = pickle.loads(pickle.dumps(DataError("Got x.", "y", "Do z.")))
    assert isinstance(error, DataError)
    assert str(error) == "Got x.\nAllowed: y\nNext: Do z."


def test_it_is_found_below_other_errors():
    outer = RuntimeError("wrapper")
    outer.__cause__ = DataError("Got x.")
    assert str(find_user_error(outer)) == "Got x."


def test_a_bug_is_not_a_user_error():
    assert find_user_error(ValueError("x")) is None
    assert find_user_error(None) is None


@pytest.mark.ray
def test_it_is_found_in_a_remote_error(ray_local: None):
    import ray

    @ray.remote
    def fail() -> None:
        raise DataError("Got x.", "y", "Do z.")

    with pytest.raises(Exception) as caught:  # noqa: PT011
        ray.get(fail.remote())
    assert str(find_user_error(caught.value)) == "Got x.\nAllowed: y\nNext: Do z."
    assert isinstance(find_user_error(caught.value), RaffectError)


@pytest.mark.ray
def test_a_lost_process_is_told_from_a_fault_of_the_program(ray_local: None):
    import ray

    from raffect.engine import find_lost_work

    @ray.remote(num_cpus=0)
    class Actor:
        def __init__(self, fails: bool) -> None:
            if fails:
                raise ValueError("x")

        def end(self) -> None:
            os._exit(1)

    def told(fails: bool) -> LostWorkError | None:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            ray.get(Actor.remote(fails).end.remote())
        return find_lost_work(caught.value)

    lost = told(fails=False)
    assert lost is not None
    assert "ActorDiedError: The actor died unexpectedly" in lost.got
    assert told(fails=True) is None
    assert find_lost_work(ValueError("x")) is None
