"""What the demonstration sends: parallel texts, written for it or free, and bad records."""

import base64
import importlib.resources
import random
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from alignstream.ops.admin.gate_texts import GateTexts, LanguageName, ParallelText
from alignstream.ops.client.producer import DOCUMENT_HEADERS, KeyValueHeaders


class ClinicTexts(msgspec.Struct, frozen=True):
    """The file ``clinic.json``: texts of another domain; only there the language ``newcomer`` occurs."""

    about: str
    newcomer: str
    languages: dict[str, LanguageName]
    texts: tuple[ParallelText, ...]


class StreamMessage(msgspec.Struct, frozen=True):
    """One text of the second act's stream."""

    domain: str
    key: str
    language: str
    text: str


class BadRecord(msgspec.Struct, frozen=True):
    """A record that the service must refuse, and the reason that it must give."""

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


EVERYDAY: Final = "everyday"
CLINIC: Final = "clinic"
#: The two kinds of documents in the second act.
STORED: Final = "stored"
STREAMED: Final = "streamed"
#: Seed of the order of the stream.
_SEED: Final = 7


def _packaged(name: str) -> bytes:
    return (importlib.resources.files("alignstream.ops.demo") / name).read_bytes()


def load_clinic() -> ClinicTexts:
    """Return the texts of the second domain."""
    return msgspec.json.decode(_packaged("clinic.json"), type=ClinicTexts)


def stream_of(everyday: GateTexts, clinic: ClinicTexts) -> list[StreamMessage]:
    """Return a stream that changes its domain: all everyday texts, then all texts of the clinic, each part shuffled.

    Both parts come in the languages that they share, and the second in one more.
    """
    generator = random.Random(_SEED)  # noqa: S311 (an order, not a secret)
    stream = []
    for domain, texts, languages in (
        (EVERYDAY, everyday.texts, clinic.languages.keys() & everyday.languages.keys()),
        (CLINIC, clinic.texts, clinic.languages.keys()),
    ):
        messages = [
            StreamMessage(domain, text.key, language, text.text[language])
            for text in texts
            for language in sorted(languages)
        ]
        generator.shuffle(messages)
        stream += messages
    return stream


def load_bad_records(max_document_bytes: int) -> list[BadRecord]:
    """Return the bad records, and one that is larger than the worker accepts."""
    records = list(msgspec.json.decode(_packaged("bad-records.json"), type=_BadRecords).records)
    value = b'{"text":"' + b"x" * max_document_bytes + b'"}'
    too_large = BadRecord(
        name="too-large",
        why=f"more than {max_document_bytes} bytes",
        reason="too-large",
        value_base64=base64.b64encode(value).decode(),
    )
    return [*records, too_large]


def documents(
    texts: GateTexts, *, run: str, kind: str, label_set: str, adapter: str | None
) -> list[KeyValueHeaders]:
    """Return the texts as records for ``documents.v1``.

    Parameters
    ----------
    run : str
        The name of this run, which tells it from an older one on the same broker.
    kind : str
        ``aligned`` or ``raw``; part of each id.
    label_set : str
        The labels that each document asks for.
    adapter : str, optional
        The adapter that each document asks for; None leaves it to the worker.
    """
    records: list[KeyValueHeaders] = []
    for text in texts.texts:
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


def stream_documents(
    messages: Sequence[StreamMessage], *, run: str, kind: str, tenant: str
) -> list[KeyValueHeaders]:
    """Return messages as records for ``documents.v1``; nothing is learned from those of kind ``STORED``."""
    records: list[KeyValueHeaders] = []
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


def bad_documents(records: Sequence[BadRecord]) -> list[KeyValueHeaders]:
    """Return bad records as they are produced, each with its name in the key."""
    return [
        (
            f"bad:{record.name}".encode(),
            record.value,
            tuple((k, v.encode()) for k, v in record.headers.items()),
        )
        for record in records
    ]
