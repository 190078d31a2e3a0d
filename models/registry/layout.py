"""The layout of the registry: pointers, keys, limits and their checks.

Every store and every version of the service must agree on it. This module must never import a client library.
"""

import datetime as dt
import hashlib
import hmac
import re
import urllib.parse
from typing import Literal, get_args

import msgspec

from alignstream.models.errors import RegistryCorrupt, RegistryError

Kind = Literal["adapter", "labels", "epoch"]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: Starts with a letter or a digit, so that a name can never be ``.``, ``..`` or a command-line option.
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHA256_PATTERN = re.compile(r"[0-9a-f]{64}")
VERSION_CHARACTERS = 12
#: The largest integer that every JSON reader keeps exactly.
REVISION_MAX = 2**53 - 1

#: An adapter of 1,024 dimensions in float32 takes 4 MiB; anything larger than this was not published by us.
BLOB_BYTES_MAX = 8 * 1024 * 1024
#: A pointer takes a few hundred bytes; the rest is room for the note.
POINTER_BYTES_MAX = 16 * 1024
#: Pointers kept per name; a rollback can reach as far back.
HISTORY_MAX = 100

#: Pub/sub channel for hints. A hint only says "look"; the pointers are the truth.
EVENTS_CHANNEL = "alignstream:events"

_DEFAULT_REDIS_PORT = 6379


class Pointer(msgspec.Struct, frozen=True):
    """The blob that a name stands for, as JSON under ``alignstream:{kind}:{name}:current``.

    Attributes
    ----------
    name : str
        Matches `NAME_PATTERN`.
    revision : int
        Rises with every move of this name, even after the registry was emptied.
    version : str
        First 12 characters of `sha256`, for people.
    sha256 : str
        Of the blob: 64 lower-case hexadecimal characters.
    size_bytes : int
        Size of the blob.
    created : str
        When the pointer was moved here: RFC 3339, UTC.
    dim : int or None
        Dimension of the vectors that an adapter takes.
    encoder : str or None
        Fingerprint of the encoder that an adapter or epoch belongs to.
    frozen : bool
        Set by a rollback and cleared by a publish; while set, only a person moves the pointer.
    note : str
        Free text of whoever moved it.
    """

    name: str
    revision: int
    version: str
    sha256: str
    size_bytes: int
    created: str
    dim: int | None = None
    encoder: str | None = None
    frozen: bool = False
    note: str = ""


def epoch_name(encoder: str, tenant: str) -> str:
    """Return the name under which a tenant's epoch for an encoder is published."""
    name = f"{encoder[:VERSION_CHARACTERS]}.{tenant}"
    if NAME_PATTERN.fullmatch(name):
        return name
    digest = hashlib.sha256(tenant.encode()).hexdigest()[:VERSION_CHARACTERS]
    return f"{encoder[:VERSION_CHARACTERS]}.{tenant[:32]}-{digest}"


def check_kind(kind: str) -> None:
    """Refuse a kind that the registry does not hold.

    Raises
    ------
    RegistryError
        It is not one of `KINDS`.
    """
    if kind not in KINDS:
        raise RegistryError(f"{kind!r} is not a kind that the registry holds; use one of: {', '.join(KINDS)}")


def check_name(name: str) -> None:
    """Refuse a name that cannot be a key, a file name and a metric label alike.

    Raises
    ------
    RegistryError
        It does not match `NAME_PATTERN`.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise RegistryError(
            f"{name[:80]!r} is not a valid registry name; use 1 to 64 letters, digits, '.', '_' and '-', "
            f"starting with a letter or a digit"
        )


def check_sha256(sha256: str) -> None:
    """Refuse anything but a sha256 in lower-case hexadecimal.

    Raises
    ------
    RegistryError
        It is something else.
    """
    if not SHA256_PATTERN.fullmatch(sha256):
        raise RegistryError(f"{sha256[:80]!r} is not a sha256; take it from a pointer of the registry")


def blob_key(kind: Kind, name: str, sha256: str) -> str:
    """Return the key of an immutable blob."""
    return f"alignstream:{kind}:{name}:blob:{sha256}"


def current_key(kind: Kind, name: str) -> str:
    """Return the key of the pointer."""
    return f"alignstream:{kind}:{name}:current"


def history_key(kind: Kind, name: str) -> str:
    """Return the key of the list of pointers that the name has had, newest first."""
    return f"alignstream:{kind}:{name}:history"


def names_key(kind: Kind) -> str:
    """Return the key of the set of all names of a kind."""
    return f"alignstream:{kind}:names"


def now_utc() -> str:
    """Return the current time in UTC as RFC 3339, to the millisecond."""
    now = dt.datetime.now(dt.UTC)
    return now.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode_pointer(pointer: Pointer) -> bytes:
    """Encode a pointer as JSON.

    Raises
    ------
    RegistryError
        Its texts are too long, or not valid Unicode.
    """
    try:
        raw = msgspec.json.encode(pointer)
    except UnicodeEncodeError:
        raise RegistryError(
            f"{pointer.name}: the note or the encoder is not valid Unicode; rewrite it"
        ) from None
    if len(raw) > POINTER_BYTES_MAX:
        raise RegistryError(
            f"{pointer.name}: its pointer would take {len(raw)} bytes, but {POINTER_BYTES_MAX} are allowed; "
            f"shorten the note"
        )
    return raw


def decode_pointer(raw: bytes, *, name: str, where: str) -> Pointer:
    """Read a pointer and check everything that does not need the blob.

    Parameters
    ----------
    raw : bytes
        The stored bytes.
    name : str
        The name that the pointer must belong to.
    where : str
        Key or path, for error messages.

    Raises
    ------
    RegistryCorrupt
        It is not a pointer, or not one of this name.
    """
    remedy = "remove what is there, then publish under this name again"
    if len(raw) > POINTER_BYTES_MAX:
        raise RegistryCorrupt(
            f"{where} holds {len(raw)} bytes, but a pointer takes at most {POINTER_BYTES_MAX}; {remedy}"
        )
    try:
        pointer = msgspec.json.decode(raw, type=Pointer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RegistryCorrupt(f"{where} does not hold a pointer: {error}; {remedy}") from error
    if flaw := _flaw(pointer, name):
        raise RegistryCorrupt(f"{where} holds an invalid pointer: {flaw}; {remedy}")
    return pointer


def _flaw(pointer: Pointer, name: str) -> str | None:
    """Return what is wrong with a well-formed pointer, or None."""
    try:
        is_timed = dt.datetime.fromisoformat(pointer.created).tzinfo is not None
    except ValueError:
        is_timed = False
    laws = {
        f"it belongs to {pointer.name[:80]!r}": pointer.name == name,
        "sha256 is not 64 hexadecimal characters": SHA256_PATTERN.fullmatch(pointer.sha256) is not None,
        "version is not the start of sha256": pointer.version == pointer.sha256[:VERSION_CHARACTERS],
        f"revision is not between 1 and {REVISION_MAX}": 1 <= pointer.revision <= REVISION_MAX,
        f"size_bytes is not between 1 and {BLOB_BYTES_MAX}": 1 <= pointer.size_bytes <= BLOB_BYTES_MAX,
        "dim is below 1": pointer.dim is None or pointer.dim >= 1,
        "created is not an RFC 3339 time": is_timed,
    }
    return next((flaw for flaw, holds in laws.items() if not holds), None)


def check_blob(blob: bytes, *, sha256: str, where: str) -> None:
    """Check the size and sha256 of a blob, in one pass over its bytes.

    Raises
    ------
    RegistryCorrupt
        The sha256 differs, or the blob is empty or too large.
    """
    remedy = "publish it again, or roll back to another version"
    if not 1 <= len(blob) <= BLOB_BYTES_MAX:
        raise RegistryCorrupt(f"{where} holds {len(blob)} bytes, expected 1 to {BLOB_BYTES_MAX}; {remedy}")
    actual = hashlib.sha256(blob).hexdigest()
    if not hmac.compare_digest(actual, sha256):
        raise RegistryCorrupt(
            f"{where} holds {len(blob)} bytes with sha256 {actual[:VERSION_CHARACTERS]}…, "
            f"expected {sha256[:VERSION_CHARACTERS]}…; {remedy}"
        )


def address(url: str) -> str:
    """Return a registry URL without user, password and options: safe to print, equal for equal databases.

    Raises
    ------
    RegistryError
        It is not a Redis URL. The message repeats nothing of it, because a password may be in any part of
        a malformed URL.

    Examples
    --------
    >>> address("rediss://user:secret@cache/?db=2")
    'rediss://cache:6379/2'
    """
    unreadable = RegistryError(
        "the Redis URL cannot be parsed; write redis://, rediss:// or unix:// with host, port and database, "
        "and percent-encode special characters in the password (or use the setting for the password)"
    )
    try:
        parts = urllib.parse.urlsplit(url)
        host, port = parts.hostname, parts.port
        options = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        raise unreadable from None
    # An unescaped '/', '?' or '#' in a password moves the '@', and part of the password, into a later part of the URL.
    stray = "@" in f"{parts.path}{parts.fragment}" or parts.fragment or any("@" in key for key in options)
    database = options.get("db", [""])[0]
    if parts.scheme == "unix" and parts.path and not stray:
        place = parts.path
    elif parts.scheme in {"redis", "rediss"} and host and not stray:
        place = f"{f'[{host}]' if ':' in host else host}:{port or _DEFAULT_REDIS_PORT}"
        database = database or parts.path.strip("/")
    else:
        raise unreadable
    database = database or "0"
    if not (database.isascii() and database.isdigit()):
        raise unreadable
    return f"{parts.scheme}://{place}/{int(database)}"
