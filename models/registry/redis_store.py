"""The registry in Redis: the primitives of `StoreRules`, with bounded time and errors that say what to do.

It must never be called in the path of a batch, and must never import the settings: it takes plain values.
Redis Cluster is not supported, because a move touches several keys at once.
"""

import contextlib
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.client import PubSub
from redis.connection import parse_url
from redis.retry import Retry

from alignstream.models.errors import RegistryCorrupt, RegistryError, RegistryUnavailable
from alignstream.models.registry import layout
from alignstream.models.registry.layout import Kind
from alignstream.models.registry.store import StoreRules

T = TypeVar("T")

#: Pause between attempts to subscribe: far below the time a swap may take, far above a busy loop.
RESUBSCRIBE_SECONDS = 0.5
#: How often a waiting thread checks whether the store was closed.
CLOSE_CHECK_SECONDS = 0.5
#: An idle connection is checked with a PING first, which also keeps the subscription alive behind a NAT.
HEALTH_CHECK_SECONDS = 15
#: Unanswered PINGs after which a subscription is given up: its connection may be half-open, which the system would
#: notice only after a quarter of an hour.
UNANSWERED_PINGS_MAX = 3
#: Hints read in one call; the rest stay for the next, so that a flood of them cannot hold the poller.
HINTS_PER_CALL = 1000
#: Options allowed in the URL. Timeouts are not: they would break the promise of bounded time.
URL_OPTIONS = frozenset({"db", "username", "password", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})

# KEYS: pointer, history, names. ARGV: expected pointer ('' = none), new pointer, name, length of the
# history, channel, hint. The pointer's bytes contain its revision, so comparing them compares it.
# Types are checked first, because a script that stops half-way is not rolled back. A lost hint is no failure.
SWAP_SCRIPT = """
for i, wanted in ipairs({'string', 'list', 'set'}) do
  local kind = redis.call('TYPE', KEYS[i]).ok
  if kind ~= 'none' and kind ~= wanted then return {KEYS[i], kind, wanted} end
end
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SADD', KEYS[3], ARGV[3])
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('LTRIM', KEYS[2], 0, ARGV[4] - 1)
redis.call('SET', KEYS[1], ARGV[2])
redis.pcall('PUBLISH', ARGV[5], ARGV[6])
return 1
"""


class RedisStore(StoreRules):
    """A registry in one Redis (7 or newer) that all workers share.

    Nothing connects before the first call. A dead or frozen Redis is noticed after `timeout_seconds`, or about
    twice that with the one retry. How long it takes to resolve the host's name is up to the system.

    Parameters
    ----------
    url : str
        ``redis://``, ``rediss://`` (TLS 1.2 or newer, verified) or ``unix://``; messages show `layout.address` of it.
    username, password : str or None
        Override those in the URL.
    ca_file : Path or str or None
        CA certificates (PEM) to trust for ``rediss://``. None: those of the system.
    timeout_seconds : float
        For connecting, for each read, and for sending one blob as a whole.

    Raises
    ------
    RegistryError
        The URL or `ca_file` cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        ca_file: Path | str | None = None,
        timeout_seconds: float = 0.5,
    ) -> None:
        self._address = layout.address(url)
        self._timeout_seconds = timeout_seconds
        options = _connection_options(url, self._address, ca_file)
        options |= {"username": username} if username is not None else {}
        options |= {"password": password} if password is not None else {}
        pool = redis.ConnectionPool(
            **options,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            health_check_interval=HEALTH_CHECK_SECONDS,
            # The library retries connecting, the PING and the command separately, and these retries multiply:
            # allow none inside and one outside.
            retry=Retry(NoBackoff(), 0),
            # With RESP2 and no driver name, connecting needs no round trip and no permission beyond AUTH.
            protocol=2,
            driver_info=None,
        )
        self._client = redis.Redis(connection_pool=pool)
        self._once_more = Retry(ExponentialWithJitterBackoff(cap=0.2, base=0.02), 1)
        self._hint_lock = threading.Lock()
        self._closed = threading.Event()
        self._subscription: PubSub | None = None
        self._has_tried = False
        self._next_attempt_at = 0.0

    def _read_pointer(self, kind: Kind, name: str) -> bytes | None:
        return self._get(layout.current_key(kind, name), layout.POINTER_BYTES_MAX)

    def _read_pointers(self, kind: Kind) -> Mapping[str, bytes | RegistryCorrupt | None]:
        pointers: dict[str, bytes | RegistryCorrupt | None] = {}
        names = []
        index = layout.names_key(kind)
        for member in self._run("SMEMBERS", index):
            name = member.decode("utf-8", "backslashreplace")
            if layout.NAME_PATTERN.fullmatch(name):
                names.append(name)
            else:
                pointers[name] = RegistryCorrupt(
                    f"{index} lists {name[:80]!r}, which is not a valid name; remove it"
                )
        keys = [layout.current_key(kind, name) for name in names]
        fetched = []
        for name, key, n_bytes in zip(names, keys, self._run_each("STRLEN", keys), strict=True):
            if isinstance(n_bytes, Exception):
                pointers[name] = self._corrupt(n_bytes, key)
            elif n_bytes > layout.POINTER_BYTES_MAX:
                pointers[name] = _too_large(key, n_bytes, layout.POINTER_BYTES_MAX)
            else:
                fetched.append((name, key))
        values = self._run_each("GET", [key for _, key in fetched])
        for (name, key), value in zip(fetched, values, strict=True):
            pointers[name] = self._corrupt(value, key) if isinstance(value, Exception) else value
        return pointers

    def _read_history(self, kind: Kind, name: str, limit: int) -> list[bytes]:
        entries: list[bytes] = self._run("LRANGE", layout.history_key(kind, name), 0, limit - 1)
        return entries

    def _read_blob(self, kind: Kind, name: str, sha256: str) -> bytes | None:
        return self._get(layout.blob_key(kind, name, sha256), layout.BLOB_BYTES_MAX)

    def _write_blob(self, kind: Kind, name: str, sha256: str, blob: bytes) -> None:
        self._run("SET", layout.blob_key(kind, name, sha256), blob)

    def _delete_blobs(self, kind: Kind, name: str, sha256s: Sequence[str]) -> None:
        self._run("UNLINK", *(layout.blob_key(kind, name, sha256) for sha256 in sha256s))

    def _milliseconds(self) -> int:
        seconds, microseconds = self._run("TIME")
        return int(seconds) * 1000 + int(microseconds) // 1000

    def _swap(self, kind: Kind, name: str, expected: bytes | None, pointer: bytes) -> bool:
        keys = (layout.current_key(kind, name), layout.history_key(kind, name), layout.names_key(kind))
        # Never sent twice: if only the reply was lost, the second attempt would conflict with the first.
        reply = self._run(
            *("EVAL", SWAP_SCRIPT, len(keys), *keys),
            *(expected or b"", pointer, name, layout.HISTORY_MAX, layout.EVENTS_CHANNEL, f"{kind}:{name}"),
            is_repeatable=False,
        )
        if isinstance(reply, list):
            key, actual, wanted = (part.decode() for part in reply)
            raise RegistryCorrupt(
                f"{key} in {self._address} holds a {actual}, not a {wanted}; remove it, then try again"
            )
        return bool(reply)

    def wait_for_hint(self, timeout_seconds: float) -> bool:
        """Wait until something is published; see `Store.wait_for_hint`."""
        deadline = time.monotonic() + timeout_seconds
        with self._hint_lock:
            while not self._closed.is_set():
                if self._subscription is None:
                    if self._subscribe():
                        return True
                    if self._subscription is None:
                        pause = min(deadline, self._next_attempt_at) - time.monotonic()
                        self._closed.wait(max(0.0, pause))
                elif self._was_hinted(min(deadline - time.monotonic(), CLOSE_CHECK_SECONDS)):
                    return True
                if time.monotonic() >= deadline:
                    return False
        return False

    def close(self) -> None:
        """Close all connections; see `Store.close`."""
        self._closed.set()
        with self._hint_lock:
            self._unsubscribe()
        self._client.connection_pool.disconnect()

    def _subscribe(self) -> bool:
        """Try to subscribe unless it is too early; return whether hints may have been missed until now."""
        if time.monotonic() < self._next_attempt_at:
            return False
        subscription: PubSub = self._client.pubsub()  # type: ignore[no-untyped-call]  # the library's
        try:
            subscription.subscribe(layout.EVENTS_CHANNEL)
            # Only the server's confirmation guarantees that no hint is missed from here on.
            confirmation = subscription.get_message(timeout=self._timeout_seconds)
        except (redis.RedisError, OSError):
            confirmation = None
        self._next_attempt_at = time.monotonic() + RESUBSCRIBE_SECONDS
        is_first, self._has_tried = not self._has_tried, True
        if confirmation is None or confirmation["type"] != "subscribe":
            _discard(subscription)
            return False
        self._subscription = subscription
        return not is_first

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            _discard(self._subscription)
            self._subscription = None

    def _was_hinted(self, timeout_seconds: float) -> bool:
        """Wait for a hint, and drain those that came with it."""
        if self._subscription is None:
            return False
        is_hinted = False
        try:
            for _ in range(HINTS_PER_CALL):
                message = self._subscription.get_message(
                    timeout=0.0 if is_hinted else max(0.0, timeout_seconds)
                )
                if message is None:
                    break
                is_hinted = is_hinted or message["type"] == "message"
            if self._subscription.health_check_response_counter > UNANSWERED_PINGS_MAX:
                self._unsubscribe()
        except (redis.RedisError, OSError):
            self._unsubscribe()
        return is_hinted

    def _get(self, key: str, bytes_max: int) -> bytes | None:
        """Return the value of a key, or None; a value that is too large is not fetched."""
        n_bytes = self._run("STRLEN", key)
        if n_bytes > bytes_max:
            raise _too_large(key, n_bytes, bytes_max)
        value: bytes | None = self._run("GET", key)
        return value

    def _run(self, *command: str | bytes | int, is_repeatable: bool = True) -> Any:  # noqa: ANN401 (any reply)
        """Run one command; its second word is the key, for error messages."""

        def attempt() -> Any:  # noqa: ANN401 (any reply)
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]  # the library's

        return self._guarded(
            attempt, str(command[1]) if len(command) > 1 else "", is_repeatable=is_repeatable
        )

    def _run_each(self, command: str, keys: list[str]) -> list[Any]:
        """Run one command on each key in one round trip; error replies stay in the list."""

        def attempt() -> list[Any]:
            with self._client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.execute_command(command, key)  # type: ignore[no-untyped-call]  # the library's
                return pipe.execute(raise_on_error=False)

        return self._guarded(attempt, "the registry", is_repeatable=True) if keys else []

    def _guarded(self, attempt: Callable[[], T], key: str, *, is_repeatable: bool) -> T:
        """Run an attempt, retry once if the connection failed, and translate errors into ours."""
        try:
            if not is_repeatable:
                return attempt()
            return self._once_more.call_with_retry(
                attempt,
                lambda _: None,
                is_retryable=lambda error: not isinstance(error, redis.AuthenticationError),
            )
        except redis.AuthenticationError as error:
            raise RegistryUnavailable(
                f"{self._address} refused the credentials; check the Redis user name and password"
            ) from error
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            unsure = "" if is_repeatable else " (the change may have been made: check before trying again)"
            raise RegistryUnavailable(
                f"{self._address} did not answer within {self._timeout_seconds:g} s{unsure}: {error}; "
                f"check that Redis runs there, or raise its timeout"
            ) from error
        except redis.RedisError as error:
            if _is_wrong_type(error):
                raise self._corrupt(error, key) from error
            raise RegistryError(f"{self._address} refused: {error}") from error

    def _corrupt(self, error: Exception, key: str) -> RegistryCorrupt:
        """Explain why one key cannot be read."""
        problem = "it holds the wrong type of value" if _is_wrong_type(error) else str(error)
        return RegistryCorrupt(f"{key} in {self._address}: {problem}; remove it and publish it again")


def _connection_options(url: str, address: str, ca_file: Path | str | None) -> dict[str, Any]:
    """Build the connection options from the URL and the TLS settings."""
    query = urllib.parse.urlsplit(url).query
    unknown = urllib.parse.parse_qs(query, keep_blank_values=True).keys() - URL_OPTIONS
    if unknown:
        raise RegistryError(
            f"{address}: the Redis URL has unsupported options ({len(unknown)}); "
            f"supported: {', '.join(sorted(URL_OPTIONS))}"
        )
    try:
        options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]  # the library's
    except ValueError:  # its message repeats parts of the URL
        raise RegistryError(f"{address}: the Redis URL cannot be parsed; check its options") from None
    is_encrypted = address.startswith("rediss://")
    if ca_file is not None and not is_encrypted:
        raise RegistryError(
            f"{address}: a CA file is set, but the connection is not encrypted; use rediss://"
        )
    if ca_file is not None and not Path(ca_file).is_file():
        raise RegistryError(f"{ca_file}: the file of CA certificates for {address} does not exist")
    if is_encrypted:
        options["ssl_min_version"] = ssl.TLSVersion.TLSv1_2
        options |= {"ssl_ca_certs": str(ca_file)} if ca_file is not None else {}
    return options


def _discard(subscription: PubSub) -> None:
    """Close a subscription whose connection may already be broken."""
    with contextlib.suppress(redis.RedisError, OSError):
        subscription.close()


def _is_wrong_type(error: Exception) -> bool:
    return isinstance(error, redis.ResponseError) and str(error).startswith("WRONGTYPE")


def _too_large(key: str, n_bytes: int, bytes_max: int) -> RegistryCorrupt:
    return RegistryCorrupt(
        f"{key} holds {n_bytes} bytes, but at most {bytes_max} are allowed; remove it and publish it again"
    )
