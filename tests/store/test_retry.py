import pytest

from raffect.errors import StoreError
from raffect.store.retry import patiently


def failing(times: int):
    calls = []

    def action() -> int:
        calls.append(1)
        if len(calls) <= times:
            raise StoreError("down")
        return len(calls)

    return action


def test_an_action_is_tried_again_after_each_pause():
    assert patiently(failing(0), (0.0,)) == 1
    assert patiently(failing(2), (0.0, 0.0)) == 3


def test_the_last_error_is_the_callers():
    with pytest.raises(StoreError):
        patiently(failing(2), (0.0,))


def test_other_errors_are_not_waited_for():
    with pytest.raises(ZeroDivisionError):
        patiently(lambda: 1 // 0, (60.0,))
