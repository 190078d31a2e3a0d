"""``alignstream topics``: create and describe the topics of the service."""

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from alignstream.ops.cli.console import DONE_IN_PART, AsJson, console, errors, print_json

topics_app = typer.Typer(no_args_is_help=True, help="Create and describe the service's topics.")


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(topics_app, name="topics")


@topics_app.command("create")
def create(
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each new topic.")] = 4,
    replication: Annotated[
        int, typer.Option(min=1, help="Copies of each partition; use 3 in production.")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Create the topics that are missing, and wait until all can be used. Existing ones stay as they are."""
    from alignstream.ops.client.broker_topics import ensure_topics
    from alignstream.streams.settings import load

    report = ensure_topics(load(), partitions=partitions, replication=replication)
    if as_json:
        print_json({"created": report.created, "existing": report.existing, "notes": report.notes})
        return
    for name in report.created:
        console.print(f"[green]created[/] {name}")
    for name in report.existing:
        console.print(f"exists  {name}")
    for note in report.notes:
        errors.print(f"[yellow]note:[/] {escape(note)}", soft_wrap=True)


@topics_app.command("describe")
def describe(as_json: AsJson = False) -> None:
    """Show the topics' partitions, records and configuration, and the lag of the consumer group."""
    import dataclasses

    from alignstream.ops.client.broker_topics import describe_topics
    from alignstream.streams.settings import load

    settings = load()
    topics = describe_topics(settings)
    if as_json:
        print_json({"group": settings.group, "topics": [dataclasses.asdict(topic) for topic in topics]})
    else:
        table = Table()
        table.add_column("topic", no_wrap=True)
        for heading in ("partitions", "records", f"lag of {settings.group}"):
            table.add_column(heading)
        for topic in topics:
            n_records = sum(topic.end_offsets.values()) - sum(topic.begin_offsets.values())
            table.add_row(
                topic.name,
                str(len(topic.end_offsets)) if topic.exists else "[red]missing[/]",
                f"{n_records:,}" if topic.exists else "",
                f"{sum(topic.lag.values()):,}" if topic.lag else "",
            )
        console.print(table)
        for topic in topics:
            facts = [*(f"{key}={value}" for key, value in topic.config.items()), *topic.notes]
            console.print(escape(f"{topic.name}: {', '.join(facts)}"), soft_wrap=True)
    if not all(topic.exists for topic in topics):
        raise typer.Exit(DONE_IN_PART)
