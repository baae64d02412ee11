"""Fixtures of the encoder's tests."""

from __future__ import annotations

import pytest
import torch

from raffect.store import Store
from tests.clip.clip_data import make_dataset


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def dataset(store: Store) -> Store:
    """A store with the small dataset: 8 training and 3 validation videos, 228 crops."""
    make_dataset(store)
    return store
