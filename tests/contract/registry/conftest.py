"""The places that every law of registries runs on."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from registry_places import MemoryPlace, Place, RedisPlace, Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path) as running:
        yield running


@pytest.fixture
def redis_place(server: Server) -> Iterator[RedisPlace]:
    with contextlib.closing(RedisPlace(server.url)) as place:
        yield place


@pytest.fixture(params=["memory", "redis"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "redis":
        yield request.getfixturevalue("redis_place")
        return
    with contextlib.closing(MemoryPlace()) as memory:
        yield memory
