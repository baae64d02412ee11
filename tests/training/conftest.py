"""The core is tested with what stands on it: a small temporal dataset and its models."""

from tests.temporal.conftest import small_store, task_data

__all__ = ["small_store", "task_data"]
