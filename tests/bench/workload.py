"""The texts that are measured on: the demonstration's own, shuffled, repeated under ids of their own."""

import dataclasses
import random
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from alignstream.ops.admin.gate_texts import load_texts
from alignstream.ops.client.producer import DOCUMENT_HEADERS, KeyValueHeaders

#: Any would do; a fixed one makes two runs comparable.
SEED: Final = 20_260_101
LONG_TEXT_WORDS: Final = 900


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One text to send through: ``identifier`` occurs once in a run."""

    identifier: str
    text: str


def items(prefix: str, count: int) -> list[Item]:
    """Return so many texts of the demonstration, in a fixed shuffled order, repeated where they run out."""
    return [Item(f"{prefix}/{number}", text) for number, text in zip(range(count), _texts(), strict=False)]


def _texts() -> Iterator[str]:
    texts = [content for text in load_texts().texts for content in text.text.values()]
    shuffler = random.Random(SEED)
    while True:
        shuffler.shuffle(texts)
        yield from texts


def short_items(prefix: str, count: int) -> list[Item]:
    """Return so many short texts, all different: a handful of tokens each."""
    return [Item(f"{prefix}/{number}", f"Message number {number}.") for number in range(count)]


def long_items(prefix: str, count: int) -> list[Item]:
    """Return so many texts beyond the limit of any encoder of this family (512 tokens)."""
    return [Item(f"{prefix}/{number}", f"{number} " + "word " * LONG_TEXT_WORDS) for number in range(count)]


def documents(wanted: Sequence[Item]) -> list[KeyValueHeaders]:
    """Return texts as records for ``documents.v1``: no labels are asked for, the worker's adapter serves."""
    return [
        (
            item.identifier.encode(),
            msgspec.json.encode({"id": item.identifier, "text": item.text}),
            DOCUMENT_HEADERS,
        )
        for item in wanted
    ]
