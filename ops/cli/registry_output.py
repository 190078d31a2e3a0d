"""What the commands on adapters and on label sets have in common: names, versions and history of the registry."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from alignstream.ops.cli.console import console, errors, print_json

if TYPE_CHECKING:
    from alignstream.models.registry.layout import Kind, Pointer


def show_pointer(pointer: "Pointer", *, as_json: bool) -> None:
    """Print what a name points at now."""
    import msgspec

    if as_json:
        print_json(msgspec.to_builtins(pointer))
        return
    console.print(
        f"[bold]{pointer.name}[/] is at version [bold]{pointer.version}[/], revision {pointer.revision} "
        f"({pointer.size_bytes} bytes)" + (", frozen" if pointer.frozen else "")
    )


def show_history(history: "Sequence[Pointer]") -> None:
    """Print the revisions of a name, the newest first."""
    for pointer in history:
        frozen = " (rollback)" if pointer.frozen else ""
        console.print(
            f"  revision {pointer.revision}: {pointer.version}{frozen} {pointer.created} {escape(pointer.note)}",
            soft_wrap=True,
        )


def show_fallen_back(fell_back: Mapping[str, str]) -> None:
    """Print to standard error which languages lost their own map, and why."""
    from alignstream.ops.admin.push_gate import fallback_message

    for tag, reason in fell_back.items():
        errors.print(f"[yellow]note:[/] {escape(fallback_message(tag, reason))}", soft_wrap=True)


def list_names(kind: "Kind", *, as_json: bool) -> None:
    """List what is published of a kind; a damaged name does not hide the others."""
    import contextlib

    import msgspec
    from rich.table import Table

    from alignstream.models.errors import RegistryCorrupt
    from alignstream.streams.kafka.connections import open_store
    from alignstream.streams.settings import load

    with contextlib.closing(open_store(load())) as store:
        pointers = store.pointers(kind)
    if as_json:
        print_json(
            [
                {"name": name, "problem": str(pointer)}
                if isinstance(pointer, RegistryCorrupt)
                else msgspec.to_builtins(pointer)
                for name, pointer in pointers.items()
            ]
        )
        return
    table = Table("name", "version", "revision", "bytes", "encoder", "since", "note")
    for name, pointer in pointers.items():
        if isinstance(pointer, RegistryCorrupt):
            table.add_row(name, "[red]damaged[/]", "", "", "", "", escape(str(pointer)))
        else:
            frozen = "frozen " if pointer.frozen else ""
            table.add_row(
                name, pointer.version, str(pointer.revision), str(pointer.size_bytes),
                (pointer.encoder or "")[:12], pointer.created[:19], frozen + escape(pointer.note),
            )  # fmt: skip
    console.print(table)
