"""``alignstream state``: what the learner knows of tenants, and what people may ask of it."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from alignstream.models.errors import LearnerError
from alignstream.ops.cli.console import AsJson, console, print_json

if TYPE_CHECKING:
    from alignstream.ops.admin.learner_state import TenantView
    from alignstream.streams.wire.observations import Action

state_app = typer.Typer(
    no_args_is_help=True,
    help="What queries learned from the stream, by tenant: show, freeze, reset, roll back.",
)

Tenant = Annotated[str | None, typer.Option(help="Only this tenant. Default: all.")]
OneTenant = Annotated[str, typer.Option(help="The tenant.")]
Language = Annotated[str | None, typer.Option(help="Only this language.")]
Encoder = Annotated[str | None, typer.Option(help="Only this encoder: the start of its fingerprint.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(state_app, name="state")


@state_app.command("show")
def show(tenant: Tenant = None, encoder: Encoder = None, as_json: AsJson = False) -> None:
    """Show what serves each tenant and what is known of its stream; of one tenant, its languages too."""
    from alignstream.ops.admin import learner_state as state
    from alignstream.streams.settings import load

    settings = load()
    log = state.read_log(settings, keeps_parts=tenant is not None)
    found = state.tenants(log, tenant=tenant, encoder=encoder)
    if tenant is not None and not found:
        raise LearnerError(f"the learner knows no tenant {tenant!r}; 'alignstream state show' lists them")
    if as_json:
        print_json([_plain(view) for view in found])
        return
    _table(found)
    if tenant is None:
        return
    for view in found:
        if view.epoch is not None:
            for item in state.languages(settings, state.serving_epoch(log, view.tenant_key)):
                kind = " (without tags)" if item.is_inferred else ""
                console.print(
                    f"  {item.language or 'unknown'}{kind}: mean worth {item.weight:.0f} texts, queries move by "
                    f"{item.correction:.3f}",
                    highlight=False,
                )
        if view.state is not None:
            for line in view.state.summary.maps:
                console.print(f"  map of {escape(line)}", highlight=False, soft_wrap=True)


def _plain(view: "TenantView") -> dict[str, Any]:
    import msgspec

    return {
        "tenant": view.tenant,
        "encoder": view.encoder,
        "epoch": None if view.epoch is None else msgspec.to_builtins(view.epoch.current),
        "is_frozen": view.epoch is not None and view.epoch.is_frozen,
        "history": [] if view.epoch is None else [item.number for item in view.epoch.history],
        "state": None if view.state is None else msgspec.to_builtins(view.state.summary),
    }


def _table(found: "list[TenantView]") -> None:
    from rich.table import Table

    if not found:
        console.print("the learner knows no tenant yet")
        return
    table = Table("tenant", "encoder", "epoch", "why", "texts", "languages", "pairs", "examples")
    for view in found:
        current = None if view.epoch is None else view.epoch.current
        summary = None if view.state is None else view.state.summary
        table.add_row(
            escape(view.tenant),
            view.encoder[:12],
            "none" if current is None else str(current.number),
            "" if current is None else current.reason,
            *(
                ("", "", "", "")
                if summary is None
                else (
                    f"{summary.n_seen:,}",
                    str(summary.n_languages),
                    str(summary.n_pairs),
                    str(summary.n_examples),
                )
            ),
        )
    console.print(table)
    for view in found:
        console.print(f"{escape(view.tenant)}: {escape(_remarks(view))}", highlight=False, soft_wrap=True)


def _remarks(view: "TenantView") -> str:
    found = []
    if view.epoch is not None and view.epoch.is_frozen:
        found.append("frozen: it learns, and publishes nothing until 'alignstream state thaw'")
    if view.state is None:
        return "; ".join(found) or "follows"
    summary = view.state.summary
    if summary.is_frozen and not found:
        found.append("frozen before its first epoch")
    if summary.frozen_languages:
        found.append(f"means that stay: {', '.join(summary.frozen_languages)}")
    if summary.suspended:
        found.append(f"learns nothing now: {summary.suspended}")
    if summary.refusal is not None:
        found.append(f"epoch {summary.refusal.number} was refused: {summary.refusal.reason}")
    if summary.n_doubtful:
        found.append(f"{summary.n_doubtful} of {summary.n_seen} texts contradict their tag, and do not count")
    if summary.n_capped:
        found.append(f"{summary.n_capped} texts of keys over their share do not count")
    if summary.drift is not None:
        of = "" if summary.drift_threshold is None else f", a change begins at {summary.drift_threshold:.2f}"
        found.append(f"drift {summary.drift:.2f}{of}; {summary.n_drifts} changes so far")
    return "; ".join(found) or "follows"


def _ask(
    action: "Action",
    *,
    tenant: str | None,
    encoder: str | None,
    as_json: bool,
    **fields: Any,  # noqa: ANN401 (of Control)
) -> None:
    from alignstream.ops.admin import learner_state as state
    from alignstream.streams.settings import load
    from alignstream.streams.wire.observations import Control

    settings = load()
    before = state.tenants(state.read_log(settings), tenant=tenant, encoder=encoder)
    if not before:
        named = "any tenant" if tenant is None else f"tenant {tenant!r}"
        raise LearnerError(f"the learner does not know {named}; 'alignstream state show' lists what it knows")
    fingerprint = before[0].encoder if encoder is not None else None
    control = Control(id=state.control_id(), action=action, encoder=fingerprint, tenant=tenant, **fields)
    found = state.tenants(state.ask(settings, control), tenant=tenant, encoder=encoder)
    if as_json:
        print_json([_plain(view) for view in found])
    else:
        _table(found)


@state_app.command("freeze")
def freeze(
    tenant: Tenant = None, language: Language = None, encoder: Encoder = None, as_json: AsJson = False
) -> None:
    """Keep the epoch that serves: the learner goes on learning and publishes nothing until 'thaw'.

    With --language only the mean of that language stays where it is.
    """
    _ask("freeze", tenant=tenant, encoder=encoder, as_json=as_json, language=_checked(language))


@state_app.command("thaw")
def thaw(
    tenant: Tenant = None, language: Language = None, encoder: Encoder = None, as_json: AsJson = False
) -> None:
    """Publish again; learn again where something odd about a stream's keys had stopped that.

    With --language only the mean of that language moves again.
    """
    _ask("thaw", tenant=tenant, encoder=encoder, as_json=as_json, language=_checked(language))


def _checked(language: str | None) -> str | None:
    from alignstream.models.adapter.languages import language_key

    if language is not None and language_key(language) is None:
        raise LearnerError(f"{language!r} names no language: give a BCP-47 tag such as 'pt-BR'")
    return language


@state_app.command("publish")
def publish(tenant: Tenant = None, encoder: Encoder = None, as_json: AsJson = False) -> None:
    """Open an epoch now, of what was learned so far."""
    _ask("publish", tenant=tenant, encoder=encoder, as_json=as_json)


@state_app.command("reset")
def reset(
    tenant: OneTenant, language: Language = None,
    encoder: Encoder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Forget what a tenant's unlabelled texts taught, of one language or of all; pairs and examples stay."""
    _ask("reset", tenant=tenant, encoder=encoder, as_json=as_json, language=_checked(language))


@state_app.command("rollback")
def rollback(
    tenant: OneTenant, to: Annotated[int | None, typer.Option("--to", help="Epoch. Default: the one before.")] = None,
    encoder: Encoder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Serve an older epoch and freeze the tenant, so that nothing overwrites it until 'thaw'."""
    from alignstream.ops.admin import learner_state as state
    from alignstream.streams.settings import load

    found = [
        view
        for view in state.tenants(state.read_log(load()), tenant=tenant, encoder=encoder)
        if view.epoch is not None
    ]
    if not found:
        raise LearnerError(f"tenant {tenant!r} has no epoch to go back from")
    if len(found) > 1:
        raise LearnerError(f"tenant {tenant!r} has epochs of {len(found)} encoders: name one with --encoder")
    (view,) = found
    versions = [] if view.epoch is None else [item.number for item in view.epoch.history]
    current = 0 if view.epoch is None else view.epoch.current.number
    number = to if to is not None else max((item for item in versions if item < current), default=None)
    if number is None or (to is not None and to not in versions):
        kept = ", ".join(map(str, versions)) or "none"
        raise LearnerError(f"tenant {tenant!r} has no such older epoch; kept are: {kept}")
    _ask("rollback", tenant=tenant, encoder=view.encoder, as_json=as_json, epoch=number)


@state_app.command("pairs")
def pairs(tenant: OneTenant, encoder: Encoder = None, as_json: AsJson = False) -> None:
    """List a tenant's translation memory as the serving epoch has it: what 'learn' pairs of pairs.v1 taught."""
    from rich.table import Table

    from alignstream.ops.admin import learner_state as state
    from alignstream.streams.settings import load

    log = state.read_log(load(), keeps_parts=True)
    rows = []
    for view in state.tenants(log, tenant=tenant, encoder=encoder):
        if view.epoch is None:
            continue
        memory = state.serving_epoch(log, view.tenant_key).memory
        rows += [
            {
                "id": pair_id,
                "source_language": one,
                "target_language": other,
                "source": texts[0],
                "target": texts[1],
            }
            for pair_id, one, other, texts in zip(
                memory.ids, memory.sources.languages, memory.targets.languages, memory.texts, strict=True
            )
        ]
    if as_json:
        print_json(rows)
        return
    table = Table("id", "from", "to", "source", "target")
    for row in rows:
        table.add_row(*(escape(str(value)) for value in row.values()))
    console.print(table)


@state_app.command("forget-pair")
def forget_pair(
    pair: Annotated[str, typer.Argument(help="Its id, as 'pairs' lists it.")], tenant: OneTenant,
    encoder: Encoder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Forget one pair: it leaves the memory, and the map that was fitted to it is fitted anew."""
    _ask("forget-pair", tenant=tenant, encoder=encoder, as_json=as_json, pair=pair)
