"""``alignstream adapters``: the adapters in the registry, which workers serve."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from alignstream.ops.cli.console import AsJson, console, print_json
from alignstream.ops.cli.options import Note, RegistryName, RollBackTo, Version
from alignstream.ops.cli.registry_output import list_names, show_fallen_back, show_history, show_pointer

if TYPE_CHECKING:
    from alignstream.models.registry.layout import Pointer

adapters_app = typer.Typer(
    no_args_is_help=True, help="Push, list, show and roll back adapters in the registry (Redis)."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(adapters_app, name="adapters")


@adapters_app.command("push")
def push(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="An adapter file, or 'default' for the shipped adapter.")
    ],
    name: Annotated[str, typer.Option(help="Name to publish it under.")] = "default",
    note: Note = "",
    force: Annotated[
        bool, typer.Option("--force", help="Publish it even if the gate refuses it; its note will say so.")
    ] = False,
    scored: Annotated[
        Path | None,
        typer.Option(
            "--similarity",
            help="Also judge similarity within languages by people's scores: language, score and two texts a line, "
            "separated by tabs.",
        ),
    ] = None,
    expected_revision: Annotated[
        int | None, typer.Option(help="Publish only if the pointer is at this revision.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Publish an adapter; workers serve it within seconds. Pushing the current version again changes nothing.

    First the adapter is judged by 35 texts in 27 languages, against the one published under the name. One that loses
    translations or scrambles a language is refused. A language that its own map makes worse falls back to the pooled
    map.
    """
    import hashlib

    from alignstream.models.errors import AdapterError
    from alignstream.ops.admin import registry
    from alignstream.ops.admin.publish import publish
    from alignstream.streams.settings import load

    settings = load()
    is_shipped = file == "default" and not Path(file).exists()
    if is_shipped:
        shipped = registry.shipped_adapter()
        if shipped is None:
            raise AdapterError("the package ships no adapter for the embedded encoder")
        blob = shipped.blob
    else:
        try:
            blob = Path(file).read_bytes()
        except OSError as error:
            raise AdapterError(f"cannot read {file}: {error.strerror}") from error
    current = registry.current_pointer(settings, "adapter", name)
    if (
        current is not None
        and not current.frozen
        and expected_revision is None
        and current.sha256 == hashlib.sha256(blob).hexdigest()
    ):
        show_pointer(current, as_json=as_json)
        return
    if is_shipped:
        pointer = registry.push_adapter(settings, name, blob, note=note, expected_revision=expected_revision)
    else:
        published = publish(
            settings, name, blob, note=note, scored=scored, force=force, expected_revision=expected_revision
        )
        show_fallen_back(published.fell_back)
        pointer = published.pointer
    show_pointer(pointer, as_json=as_json)


@adapters_app.command("list")
def list_adapters(as_json: AsJson = False) -> None:
    """List the adapters in the registry."""
    list_names("adapter", as_json=as_json)


@adapters_app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name in the registry, or a file.")],
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """Show what an adapter does, its report and its history."""
    import msgspec

    from alignstream.models.adapter.adapter import from_bytes
    from alignstream.ops.admin import registry
    from alignstream.streams.settings import load

    history: list[Pointer] = []
    if Path(name).is_file():
        blob = Path(name).read_bytes()
    else:
        settings = load()
        _, blob = registry.fetch(settings, "adapter", name, version)
        history = registry.history(settings, "adapter", name)
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
        console.print(f"  - {escape(step)}", soft_wrap=True)
    show_history(history)
    if adapter.report:
        console.print_json(data=dict(adapter.report))


@adapters_app.command("rollback")
def rollback(name: RegistryName, to: RollBackTo = None, as_json: AsJson = False) -> None:
    """Go back to an older version, under a new revision."""
    from alignstream.ops.admin import registry
    from alignstream.streams.settings import load

    show_pointer(registry.roll_back(load(), "adapter", name, to), as_json=as_json)


@adapters_app.command("pull")
def pull(
    name: RegistryName,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    version: Version = None,
    as_json: AsJson = False,
) -> None:
    """Copy an adapter from the registry to a file, verified."""
    from alignstream.ops.admin import registry
    from alignstream.ops.admin.output_file import write_output
    from alignstream.streams.settings import load

    pointer, blob = registry.fetch(load(), "adapter", name, version)
    write_output(output, blob)
    show_pointer(pointer, as_json=as_json)
