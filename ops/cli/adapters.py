"""``alignstream adapters``: what workers serve; and what all kinds of the registry have in common."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from alignstream.models.files import replace_file
from alignstream.ops.cli.console import AsJson, console, errors, print_json

if TYPE_CHECKING:
    from collections.abc import Mapping

adapters_app = typer.Typer(
    no_args_is_help=True, help="Adapters in the registry (Redis): push, list, roll back."
)

Note = Annotated[str, typer.Option(help="A few words kept with this version.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(adapters_app, name="adapters")


def show_pointer(pointer: Any, *, as_json: bool) -> None:  # noqa: ANN401 (imported lazily)
    """Say where a name points now."""
    import msgspec

    if as_json:
        print_json(msgspec.to_builtins(pointer))
        return
    console.print(
        f"[bold]{pointer.name}[/] is at version [bold]{pointer.version}[/], revision {pointer.revision} "
        f"({pointer.size_bytes} bytes)" + (", frozen" if pointer.frozen else ""),
        highlight=False,
    )


@adapters_app.command("push")
def push(
    file: Annotated[str, typer.Argument(help="An adapter file; 'default' pushes the one of the package.")],
    name: Annotated[str, typer.Option(help="Name to publish it under.")] = "default",
    note: Note = "",
    force: Annotated[
        bool, typer.Option("--force", help="Publish it whatever the gate says; its note will say so.")
    ] = False,
    scored: Annotated[
        Path | None,
        typer.Option(
            "--similarity",
            help="Also judge similarity within languages by people's scores: language, score, text and text a line, "
            "with tabs between them.",
        ),
    ] = None,
    expected_revision: Annotated[
        int | None, typer.Option(help="Only if the pointer is at this revision.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Publish an adapter; workers serve it within seconds. Pushing what is there already changes nothing.

    First it is judged on the texts of the demonstration in 27 languages, against what is published under the name: an
    adapter that loses translations or scrambles a language is refused; a language that its own map makes worse falls
    back to the map that serves all.
    """
    from alignstream.models.errors import AdapterError
    from alignstream.ops.admin import adapters
    from alignstream.ops.admin.publish import publish
    from alignstream.streams.kafka.connections import open_store
    from alignstream.streams.settings import load

    settings = load()
    is_shipped = file == "default" and not Path(file).exists()
    if is_shipped:
        shipped = adapters.shipped_adapter()
        if shipped is None:
            raise AdapterError("the package ships no adapter for the embedded encoder")
        blob = shipped.blob
    else:
        try:
            blob = Path(file).read_bytes()
        except OSError as error:
            raise AdapterError(f"cannot read {file}: {error.strerror}") from error
    store = open_store(settings)
    try:
        current = store.pointer("adapter", name)
    finally:
        store.close()
    if current is not None and not current.frozen and expected_revision is None:
        import hashlib

        if current.sha256 == hashlib.sha256(blob).hexdigest():
            show_pointer(current, as_json=as_json)
            return
    if is_shipped:
        pointer = adapters.push_adapter(settings, name, blob, note=note, expected_revision=expected_revision)
    else:
        published = publish(
            settings, name, blob, note=note, scored=scored, force=force, expected_revision=expected_revision
        )
        show_fallen_back(published.fell_back)
        pointer = published.pointer
    show_pointer(pointer, as_json=as_json)


def show_fallen_back(fell_back: "Mapping[str, str]") -> None:
    """Say on standard error which languages lost their own map, and why."""
    for tag, reason in fell_back.items():
        errors.print(
            f"[yellow]{escape(tag)}[/] falls back to the map that serves all languages: its own {escape(reason)}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def list_names(kind: Any, *, as_json: bool) -> None:  # noqa: ANN401 (a literal, imported lazily)
    """List what is published of a kind; a damaged name hides no other."""
    import msgspec
    from rich.table import Table

    from alignstream.models.errors import RegistryCorrupt
    from alignstream.streams.kafka.connections import open_store
    from alignstream.streams.settings import load

    store = open_store(load())
    try:
        pointers = store.pointers(kind)
    finally:
        store.close()
    if as_json:
        print_json(
            [
                {"name": name, "problem": str(item)}
                if isinstance(item, RegistryCorrupt)
                else msgspec.to_builtins(item)
                for name, item in pointers.items()
            ]
        )
        return
    table = Table("name", "version", "revision", "bytes", "encoder", "since", "note")
    for name, item in pointers.items():
        if isinstance(item, RegistryCorrupt):
            table.add_row(name, "[red]damaged[/]", "", "", "", "", escape(str(item)))
        else:
            frozen = "frozen " if item.frozen else ""
            table.add_row(
                name, item.version, str(item.revision), str(item.size_bytes),
                (item.encoder or "")[:12], item.created[:19], frozen + escape(item.note),
            )  # fmt: skip
    console.print(table)


@adapters_app.command("list")
def list_adapters(as_json: AsJson = False) -> None:
    """List the adapters in the registry."""
    list_names("adapter", as_json=as_json)


@adapters_app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Name in the registry, or a file.")],
    version: Annotated[str | None, typer.Option(help="A version of its history.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what an adapter does, its report, and its history."""
    import msgspec

    from alignstream.models.adapter.adapter import from_bytes
    from alignstream.ops.admin import adapters
    from alignstream.streams.kafka.connections import open_store
    from alignstream.streams.settings import load

    history: list[Any] = []
    if Path(name).is_file():
        blob = Path(name).read_bytes()
    else:
        settings = load()
        _, blob = adapters.fetch(settings, "adapter", name, version)
        store = open_store(settings)
        try:
            history = store.history("adapter", name)
        finally:
            store.close()
    adapter = from_bytes(blob)
    if as_json:
        print_json(
            {
                "version": adapter.version, "sha256": adapter.sha256, "encoder": adapter.encoder,
                "dim": adapter.dim, "size_bytes": len(blob), "steps": adapter.describe(),
                "report": dict(adapter.report), "history": msgspec.to_builtins(history),
            }
        )  # fmt: skip
        return
    console.print(
        f"version {adapter.version}, {len(blob)} bytes, dim {adapter.dim}, encoder {adapter.encoder[:12]}"
    )
    for step in adapter.describe():
        console.print(f"  - {escape(step)}")
    for pointer in history:
        frozen = " (rollback)" if pointer.frozen else ""
        console.print(
            f"  revision {pointer.revision}: {pointer.version}{frozen} {pointer.created} {pointer.note}"
        )
    if adapter.report:
        console.print_json(data=dict(adapter.report))


@adapters_app.command("rollback")
def rollback(
    name: Annotated[str, typer.Argument(help="Name in the registry.")],
    to: Annotated[
        str | None, typer.Option("--to", help="Version to go back to. Default: the one before.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Go back to an older version, under a new revision."""
    roll_back("adapter", name, to, as_json=as_json)


def roll_back(kind: Any, name: str, to: str | None, *, as_json: bool) -> None:  # noqa: ANN401 (a literal)
    """Move a name to a version of its history; None takes the one before."""
    from alignstream.models.errors import RegistryError
    from alignstream.streams.kafka.connections import open_store
    from alignstream.streams.settings import load

    store = open_store(load())
    try:
        if to is None:
            history = store.history(kind, name)
            older = [item for item in history if item.version != history[0].version]
            if not older:
                what = {"adapter": "adapter", "labels": "label set"}[kind]
                raise RegistryError(f"{what} {name!r} has no older version to go back to")
            to = older[0].version
        pointer = store.move(kind, name, to)
    finally:
        store.close()
    show_pointer(pointer, as_json=as_json)


@adapters_app.command("pull")
def pull(
    name: Annotated[str, typer.Argument(help="Name in the registry.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    version: Annotated[str | None, typer.Option(help="A version of its history.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy an adapter from the registry to a file, verified."""
    from alignstream.models.errors import AlignstreamError
    from alignstream.ops.admin import adapters
    from alignstream.streams.settings import load

    pointer, blob = adapters.fetch(load(), "adapter", name, version)
    try:
        replace_file(output, blob)
    except OSError as error:
        raise AlignstreamError(f"cannot write {output}: {error.strerror}") from error
    show_pointer(pointer, as_json=as_json)
