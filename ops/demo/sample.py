"""The texts of the demonstration, parallel in every language: written for it, or free; and records that are bad."""

import base64
import importlib.resources
import random
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from alignstream.ops.admin.gate_texts import Language, Sample, Text
from alignstream.ops.client.producer import DOCUMENT_HEADERS
from alignstream.streams.wire.topics import Headers


class Clinic(msgspec.Struct, frozen=True):
    """The file ``clinic.json``: another domain; the language ``newcomer`` is spoken there alone."""

    about: str
    newcomer: str
    languages: dict[str, Language]
    texts: tuple[Text, ...]


class Message(msgspec.Struct, frozen=True):
    """One text of the stream of the second act."""

    domain: str
    key: str
    language: str
    text: str


class BadRecord(msgspec.Struct, frozen=True):
    """A record that no worker can use, and the reason that it must be given."""

    name: str
    why: str
    reason: str
    value_base64: str
    headers: dict[str, str] = {}

    @property
    def value(self) -> bytes:
        """The bytes to produce."""
        return base64.b64decode(self.value_base64)


class _BadRecords(msgspec.Struct, frozen=True):
    records: tuple[BadRecord, ...]


Produced = tuple[bytes | None, bytes | None, Headers]

EVERYDAY: Final = "everyday"
CLINIC: Final = "clinic"
#: Kinds of documents of the second act.
STORED: Final = "stored"
STREAMED: Final = "streamed"
#: Of the order of the stream.
_SEED: Final = 7


def _packaged(name: str) -> bytes:
    return (importlib.resources.files("alignstream.ops.demo") / name).read_bytes()


def load_clinic() -> Clinic:
    """Return the texts of the second domain."""
    return msgspec.json.decode(_packaged("clinic.json"), type=Clinic)


def stream_of(sample: Sample, clinic: Clinic) -> list[Message]:
    """Return a stream that changes its domain: all texts of the first, then all of the second, each shuffled.

    Both come in the languages that they share, the second in one more.
    """
    generator = random.Random(_SEED)  # noqa: S311 (an order, no secret)
    found = []
    for domain, texts, languages in (
        (EVERYDAY, sample.texts, clinic.languages.keys() & sample.languages.keys()),
        (CLINIC, clinic.texts, clinic.languages.keys()),
    ):
        messages = [
            Message(domain, text.key, language, text.text[language])
            for text in texts
            for language in sorted(languages)
        ]
        generator.shuffle(messages)
        found += messages
    return found


def load_bad_records(max_document_bytes: int) -> list[BadRecord]:
    """Return the bad records, and one that is too large for this worker."""
    records = list(msgspec.json.decode(_packaged("bad-records.json"), type=_BadRecords).records)
    value = b'{"text":"' + b"x" * max_document_bytes + b'"}'
    too_large = BadRecord(
        name="too large",
        why=f"more than {max_document_bytes} bytes",
        reason="too-large",
        value_base64=base64.b64encode(value).decode(),
    )
    return [*records, too_large]


def documents(sample: Sample, *, run: str, kind: str, label_set: str, adapter: str | None) -> list[Produced]:
    """Return the sample as records for ``documents.v1``.

    Parameters
    ----------
    run : str
        Names this demonstration, so that an older one on the same broker is not taken for it.
    kind : str
        ``aligned`` or ``raw``; part of each id.
    label_set : str
        Labels to ask for.
    adapter : str, optional
        Asked for in each message; None leaves it to the worker.
    """
    records: list[Produced] = []
    for text in sample.texts:
        for language, content in text.text.items():
            identifier = document_id(run, kind, text.key, language)
            body: dict[str, object] = {
                "id": identifier,
                "text": content,
                "language": language,
                "label_set": label_set,
                "metadata": {"topic": text.topic},
            }
            if adapter is not None:
                body["align"] = {"adapter": adapter, "follow": False}
            records.append((f"{text.key}:{language}".encode(), msgspec.json.encode(body), DOCUMENT_HEADERS))
    return records


def stream_documents(messages: Sequence[Message], *, run: str, kind: str, tenant: str) -> list[Produced]:
    """Return messages as records for ``documents.v1``; from those of kind ``STORED`` nothing is learned."""
    records: list[Produced] = []
    for message in messages:
        body: dict[str, Any] = {
            "id": document_id(run, kind, message.key, message.language),
            "text": message.text,
            "language": message.language,
            "tenant": tenant,
        }
        if kind == STORED:
            body["align"] = {"follow": False}
        key = f"{message.key}:{message.language}".encode()
        records.append((key, msgspec.json.encode(body), DOCUMENT_HEADERS))
    return records


def document_id(run: str, kind: str, key: str, language: str) -> str:
    """Return the id of one text of one run."""
    return f"{run}/{kind}/{key}/{language}"


def bad_documents(records: Sequence[BadRecord]) -> list[Produced]:
    """Return bad records as they are produced; the key names them."""
    return [
        (
            f"bad:{record.name}".encode(),
            record.value,
            tuple((k, v.encode()) for k, v in record.headers.items()),
        )
        for record in records
    ]
