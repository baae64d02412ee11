from __future__ import annotations

from collections.abc import Callable

import pytest

from raffect.cli.app import run
from raffect.store import Store
from tests.predict.stores import fill_with_tasks


@pytest.fixture(scope="package")
def models(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a model of each task; it is only read."""
    return fill_with_tasks(Store(str(tmp_path_factory.mktemp("models") / "store")))


@pytest.fixture
def tell(models: Store, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """`raffect predict` on that store: exit code, output and messages."""

    def call(*arguments: object) -> tuple[int, str, str]:
        code = run(["predict", *map(str, arguments), "--store", models.uri])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
