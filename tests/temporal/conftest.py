"""Fixtures of the temporal tests: a store with a small dataset of all tasks, and its data."""

from collections.abc import Callable

import pytest

from raffect.affwild2.tasks import Task
from raffect.store import Store
from raffect.temporal.data import TaskData, load_task_data
from tests.temporal.builders import fill, small_videos


@pytest.fixture
def small_store(store: Store) -> Store:
    """A store with a small dataset of all tasks and its features `clip`."""
    fill(store, small_videos())
    return store


@pytest.fixture
def task_data(small_store: Store) -> Callable[..., TaskData]:
    """Task data of the small dataset."""

    def load(task: Task, *auxiliary: Task) -> TaskData:
        return load_task_data(small_store, "clip", task, auxiliary)

    return load
