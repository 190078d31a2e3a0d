"""Who may read and write a registry in Redis, and that no message says the password."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from registry_places import BLOB, LOOPBACK, Server, opened

from alignstream.models.errors import RegistryError, RegistryUnavailable
from alignstream.models.registry import layout as wire
from alignstream.models.registry.redis_store import RedisStore

PASSWORD = "s3cret-word"  # noqa: S105 (of a server that lives for one test)


#: What a worker needs, and what the command line needs on top.
READER_RULES = ["+get", "+strlen", "+smembers", "+lrange", "+ping", "+subscribe"]
WRITER_RULES = ["+set", "+eval", "+time", "+type", "+sadd", "+lpush", "+ltrim", "+publish"]


@pytest.fixture
def locked_server(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path, "--requirepass", PASSWORD) as running:
        with redis.Redis.from_url(running.url, password=PASSWORD) as raw:
            base = [
                "on",
                ">other",
                "resetkeys",
                "~alignstream:*",
                "resetchannels",
                "&alignstream:events",
                "-@all",
            ]
            raw.execute_command("ACL", "SETUSER", "reader", *base, *READER_RULES)
            raw.execute_command("ACL", "SETUSER", "writer", *base, *READER_RULES, *WRITER_RULES)
        yield running


def test_readers_and_writers_need_few_permissions(locked_server: Server) -> None:
    with (
        opened(locked_server.url, username="writer", password="other") as writer,  # noqa: S106 (as above)
        opened(locked_server.url, username="reader", password="other") as reader,  # noqa: S106 (as above)
    ):
        assert reader.wait_for_hint(0) is False
        pointer = writer.publish("adapter", "default", BLOB)
        assert reader.wait_for_hint(5) is True
        assert reader.pointers("adapter") == {"default": pointer}
        assert reader.history("adapter", "default") == [pointer]
        assert reader.blob("adapter", "default", pointer.sha256) == BLOB
        assert writer.move("adapter", "default", pointer.version).revision == pointer.revision + 1


def test_credentials_come_from_the_url_or_from_arguments_which_win(locked_server: Server) -> None:
    host = f"{LOOPBACK}:{locked_server.port}"
    for url, options in (
        (f"redis://:{PASSWORD}@{host}", {}),
        (f"redis://{host}", {"password": PASSWORD}),
        (f"redis://reader:wrong@{host}", {"username": "default", "password": PASSWORD}),
        (f"redis://reader:other@{host}", {}),
    ):
        with opened(url, **options) as store:
            assert store.pointer("adapter", "default") is None


def test_no_message_holds_the_password(locked_server: Server) -> None:
    host = f"{LOOPBACK}:{locked_server.port}"
    for url, options in (
        (f"redis://user:not-{PASSWORD}@{host}", {}),
        (f"redis://{host}", {"password": f"not-{PASSWORD}"}),
        (f"redis://{host}", {}),
    ):
        with opened(url, **options) as store:
            with pytest.raises(RegistryUnavailable, match="credentials") as refused:
                store.pointer("adapter", "default")
            assert PASSWORD not in f"{refused.value!r} {store!r} {refused.value.__cause__!r}"
    locked_server.kill()
    with opened(f"redis://user:{PASSWORD}@{host}") as store:
        with pytest.raises(RegistryUnavailable) as down:
            store.pointer("adapter", "default")
        assert PASSWORD not in f"{down.value!r} {down.value.__cause__!r}"


def test_what_the_user_may_not_do_is_an_error_that_says_so(locked_server: Server) -> None:
    with (
        opened(locked_server.url, username="reader", password="other") as store,  # noqa: S106 (as above)
        pytest.raises(RegistryError, match=r"refused: .*permission") as refused,
    ):
        store.publish("adapter", "default", BLOB)
    assert not isinstance(refused.value, RegistryUnavailable)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{PASSWORD}/x@localhost:6379/0",
        f"redis://user:{PASSWORD}#x@localhost:6379/0",
        f"redis://user:{PASSWORD}?x@localhost:6379/0",
        "redis://user:12/34@localhost:6379/0",
        "redis://user:12#34@localhost:6379/0",
        "redis://user:12?34@localhost:6379/0",
        f"redis://:{PASSWORD}@",
        f"redis://[{PASSWORD}",
        f"redis://localhost/{PASSWORD}",
        f"redis://localhost?db={PASSWORD}",
        f"http://user:{PASSWORD}@localhost",
        f"redis://localhost?socket_timeout=60&unknown={PASSWORD}",
        f"redis://localhost?{PASSWORD}=1",
        "",
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(RegistryError) as refused:
        RedisStore(url)
    assert "user:" not in str(refused.value)
    assert PASSWORD not in f"{refused.value!r}"
    assert refused.value.__cause__ is None


def test_a_ca_file_needs_to_exist_and_an_encrypted_connection(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="does not exist"):
        RedisStore("rediss://localhost", ca_file=tmp_path / "missing.pem")
    present = tmp_path / "ca.pem"
    present.touch()
    with pytest.raises(RegistryError, match="rediss://"):
        RedisStore("redis://localhost", ca_file=present)
    options = RedisStore("rediss://localhost", ca_file=present)._client.connection_pool.connection_kwargs
    assert options["ssl_ca_certs"] == str(present)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", "redis://h:6379/0"),
        ("redis://user:pw@H:1/2", "redis://h:1/2"),
        ("rediss://h:1?db=3", "rediss://h:1/3"),
        ("redis://[::1]:1", "redis://[::1]:1/0"),
        ("unix:///run/redis.sock?db=1&password=x", "unix:///run/redis.sock/1"),
    ],
)
def test_an_address_tells_databases_apart_and_holds_no_credentials(url: str, address: str) -> None:
    assert wire.address(url) == address
