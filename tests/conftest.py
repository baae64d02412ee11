"""Fixtures that every test may use: an empty store, a real local Ray, a real S3 server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from raffect.store import Store
from raffect.testing.s3 import S3Server, environment, start_s3_server
from tests.store.ceph import start_ceph_server
from tests.thirds import third_of

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Hypothesis fails an example that takes 0.2 s, as any may while other workers have the cores.
settings.register_profile("raffect", deadline=None)
settings.load_profile("raffect")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--s3-real", action="store_true", help="use Ceph's gateway in moto's place")
    parser.addoption("--third", type=int, help="of the tests marked `long`, only this third")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that none is left over for one worker at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    third = config.getoption("--third")
    if third is not None:
        long = [item for item in items if item.get_closest_marker("long")]
        left = {id(item) for item in long} - {id(item) for item in third_of(long, third)}
        config.hook.pytest_deselected(items=[item for item in items if id(item) in left])
        items[:] = [item for item in items if id(item) not in left]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture(scope="session")
def ray_local() -> Iterator[None]:
    import ray

    from raffect.engine import connect

    connect(None)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[S3Server]:
    if request.config.getoption("--s3-real"):
        server: S3Server = start_ceph_server(tmp_path_factory.mktemp("ceph"))
    else:
        server = start_s3_server()
    yield server
    server.stop()


@pytest.fixture
def s3_environment(s3_server: S3Server) -> Iterator[dict[str, str]]:
    values = s3_server.environment()
    with environment(values):
        yield values


@pytest.fixture
def s3_store(s3_server: S3Server, s3_environment: dict[str, str]) -> Store:
    return Store(f"s3://{s3_server.new_bucket()}/a/prefix")
