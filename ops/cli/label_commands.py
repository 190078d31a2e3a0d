"""``alignstream labels``: named label sets in the registry."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from alignstream.ops.cli.console import AsJson, console, print_json
from alignstream.ops.cli.label_fit_command import fit, fitted_summary, show_report
from alignstream.ops.cli.options import Note, RegistryName, RollBackTo, Version
from alignstream.ops.cli.registry_output import list_names, show_history, show_pointer

labels_app = typer.Typer(
    no_args_is_help=True, help="Push, fit, list, show and roll back label sets in the registry (Redis)."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(labels_app, name="labels")


@labels_app.command("push")
def push(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name that documents and ALIGNSTREAM_LABEL_SET use.")
    ],
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="JSON, or one label a line.")] = None,
    label: Annotated[list[str] | None, typer.Option("--label", "-l", help="A label; repeatable.")] = None,
    template: Annotated[
        str | None, typer.Option(help="The sentence in which a label is embedded, with {label} in it.")
    ] = None,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", help="A text may have several of the labels.")
    ] = False,
    steady_mix: Annotated[
        bool,
        typer.Option(
            "--steady-mix",
            help="The stream's mix of topics is steady, so prototypes may adapt to its texts. If the stream turns to a "
            "single topic, this loses labels.",
        ),
    ] = False,
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Publish a label set, from a file or from --label."""
    import msgspec

    from alignstream.models.errors import LabelsError
    from alignstream.models.labels.label_set import LabelSet
    from alignstream.ops.admin import registry
    from alignstream.streams.settings import load

    if (file is None) == (not label):
        raise LabelsError("give the labels either in a file or with --label")
    given = registry.read_label_set(file) if file is not None else LabelSet(labels=tuple(label or ()))
    is_multi = multi_label or given.multi_label
    labels = msgspec.structs.replace(
        given,
        template=template or given.template,
        multi_label=is_multi,
        steady_mix=steady_mix or given.steady_mix,
        # Margins are not thresholds: what was fitted for the other kind of set is dropped.
        fitted=given.fitted if is_multi == given.multi_label else None,
    )
    show_pointer(registry.push_label_set(load(), name, labels, note=note), as_json=as_json)


labels_app.command("fit")(fit)


@labels_app.command("list")
def list_sets(as_json: AsJson = False) -> None:
    """List the label sets in the registry."""
    list_names("labels", as_json=as_json)


@labels_app.command("show")
def show(name: RegistryName, version: Version = None, as_json: AsJson = False) -> None:
    """Show a label set: its labels, template and kind, what was fitted, and its history."""
    import msgspec

    from alignstream.models.labels.label_set import from_bytes
    from alignstream.ops.admin import registry
    from alignstream.streams.settings import load

    settings = load()
    pointer, blob = registry.fetch(settings, "labels", name, version)
    labels = from_bytes(blob)
    history = registry.history(settings, "labels", name)
    report = {} if labels.fitted is None else labels.fitted.report
    if as_json:
        print_json(
            {
                "pointer": msgspec.to_builtins(pointer),
                **msgspec.to_builtins(msgspec.structs.replace(labels, fitted=None)),
                "fitted": {**fitted_summary(labels), "report": report} if labels.fitted is not None else None,
                "history": msgspec.to_builtins(history),
            }
        )
        return
    show_pointer(pointer, as_json=False)
    console.print(f"template: {escape(labels.template or '(default of the worker)')}")
    console.print(f"a text may have several labels: {'yes' if labels.multi_label else 'no'}")
    console.print(f"steady mix of topics: {'yes' if labels.steady_mix else 'not declared'}")
    for label in labels.labels:
        console.print(f"  - {escape(label)}")
    if labels.fitted is not None:
        console.print(
            f"fitted for adapter {labels.fitted.adapter_version}, encoder {labels.fitted.encoder[:12]}:"
        )
        show_report(report)
    show_history(history)


@labels_app.command("rollback")
def rollback(name: RegistryName, to: RollBackTo = None, as_json: AsJson = False) -> None:
    """Go back to an older version of a label set, under a new revision; this also undoes a fit."""
    from alignstream.ops.admin import registry
    from alignstream.streams.settings import load

    show_pointer(registry.roll_back(load(), "labels", name, to), as_json=as_json)
