"""A record as one line for people, or as one JSON object for machines."""

import json
from typing import TYPE_CHECKING

from rich.markup import escape

from alignstream.ops.cli.console import console, print_json_line

if TYPE_CHECKING:
    from alignstream.ops.client.dead_letters import DeadLetter
    from alignstream.ops.client.record import Record

SHOWN_CHARACTERS = 80


def show_record(record: "Record", *, as_json: bool) -> None:
    """Print one record with its value decoded."""
    from alignstream.ops.client.record import as_json as record_json

    if as_json:
        print_json_line(record_json(record))
        return
    place = f"{record.topic} {record.partition}@{record.offset}"
    time = f"{record.timestamp:%H:%M:%S}"
    console.print(f"{time} [dim]{escape(place)}[/]  {_summary(record)}", soft_wrap=True)


def _summary(record: "Record") -> str:
    """Return one line of markup on what a record holds; text from outside is cleaned and escaped."""
    from alignstream.ops.client.dead_letters import DeadLetter
    from alignstream.ops.client.record import json_value
    from alignstream.ops.client.vector_fields import decode_vector
    from alignstream.streams.wire.topics import HEADER_ERROR_PREFIX

    if record.value is None:
        return f"[yellow]tombstone[/] key {clean((record.key or b'').decode('utf-8', errors='replace'))}"
    if record.header(HEADER_ERROR_PREFIX + "reason") is not None:
        return _dead_summary(DeadLetter.of(record))
    value = json_value(record.value)
    if not isinstance(value, dict):
        return f"{len(record.value)} bytes {clean(record.value.decode('utf-8', errors='replace'))}"
    name = f"[bold]{clean(str(value.get('id', '-')))}[/]"
    if {"vector", "encoding", "dim"} <= value.keys():
        vector = decode_vector(value)
        norm = float((vector @ vector) ** 0.5)
        numbers = " ".join(f"{number:+.3f}" for number in vector[:4])
        made_by = f"{value.get('adapter')}@{value.get('adapter_version')} space {value.get('space')}"
        return (
            f"{name} {clean(str(value.get('language', '-')))} dim {vector.size} norm {norm:.3f} "
            f"{escape(f'[{numbers} ...]')} [dim]{clean(made_by)}[/]"
        )
    if isinstance(value.get("scores"), list):
        scores = ", ".join(f"{score['label']} {score['score']:.2f}" for score in value["scores"][:3])
        label = "abstained" if value.get("label") is None else str(value["label"])
        return f"{name} [green]{clean(label)}[/] ({clean(scores)})"
    if "text" in value:
        return f"{name} {clean(str(value.get('language', '-')))} {clean(str(value['text']))}"
    return f"{name} {clean(json.dumps(value, ensure_ascii=False))}"


def _dead_summary(letter: "DeadLetter") -> str:
    value = letter.record.value or b""
    shown = "(replaced)" if letter.is_replaced else clean(value.decode("utf-8", errors="replace"))
    place = f"{letter.topic} {letter.partition}@{letter.offset}"
    return (
        f"[red]{clean(letter.reason)}[/]: {clean(letter.message or '')} "
        f"[dim](from {clean(place)}, {len(value)} bytes)[/] {shown}"
    )


def clean(text: str) -> str:
    """Shorten a text from outside, and replace what a terminal or our markup would act on."""
    shown = "".join(
        character if character.isprintable() else "�" for character in text[: SHOWN_CHARACTERS + 1]
    )
    return escape(shown if len(shown) <= SHOWN_CHARACTERS else shown[:SHOWN_CHARACTERS] + "…")
