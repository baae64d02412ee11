from __future__ import annotations

import pytest

from raffect.store import Store
from tests.predict.stores import fill_with_tasks


@pytest.fixture(scope="package")
def with_tasks(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a model of each task, and `mine` of valence and arousal; it is only read."""
    return fill_with_tasks(Store(str(tmp_path_factory.mktemp("tasks") / "store")))
