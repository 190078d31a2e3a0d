"""``alignstream state``: what the learner knows about tenants, and what people may ask it to do."""

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
    help="Show, freeze, reset and roll back what was learned from each tenant's stream.",
)

Tenant = Annotated[str | None, typer.Option(help="Only this tenant. Default: all.")]
OneTenant = Annotated[str, typer.Option(help="The tenant.")]
Language = Annotated[str | None, typer.Option(help="Only this language.")]
Encoder = Annotated[
    str | None, typer.Option(help="Only this encoder, given by the start of its fingerprint.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.add_typer(state_app, name="state")


@state_app.command("show")
def show(tenant: Tenant = None, encoder: Encoder = None, as_json: AsJson = False) -> None:
    """Show what serves each tenant and what is known about its stream; for one tenant, its languages too."""
    from alignstream.ops.admin import learner_state as state
    from alignstream.streams.settings import load

    settings = load()
    log = state.read_log(settings, keeps_parts=tenant is not None)
    views = state.tenants(log, tenant=tenant, encoder=encoder)
    if tenant is not None and not views:
        raise LearnerError(
            f"the learner knows no tenant {tenant!r}; 'alignstream state show' lists the known ones"
        )
    if as_json:
        print_json([_plain(view) for view in views])
        return
    _table(views)
    if tenant is None:
        return
    for view in views:
        if view.epoch is not None:
            for language in state.languages(settings, state.serving_epoch(log, view.tenant_key)):
                kind = " (texts without tags)" if language.is_inferred else ""
                console.print(
                    f"  {language.language or 'unknown'}{kind}: mean of {language.weight:.0f} texts, queries move by "
                    f"{language.correction:.3f}"
                )
        if view.state is not None:
            for line in view.state.summary.maps:
                console.print(f"  map of {escape(line)}", soft_wrap=True)


def _plain(view: "TenantView") -> dict[str, Any]:
    import msgspec

    return {
        "tenant": view.tenant,
        "encoder": view.encoder,
        "epoch": None if view.epoch is None else msgspec.to_builtins(view.epoch.current),
        "is_frozen": view.epoch is not None and view.epoch.is_frozen,
        "history": [] if view.epoch is None else [version.number for version in view.epoch.history],
        "state": None if view.state is None else msgspec.to_builtins(view.state.summary),
    }


def _table(views: "list[TenantView]") -> None:
    from rich.table import Table

    if not views:
        console.print("the learner knows no tenant yet")
        return
    table = Table("tenant", "encoder", "epoch", "opened by", "texts", "languages", "pairs", "examples")
    for view in views:
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
    for view in views:
        console.print(f"{escape(view.tenant)}: {escape(_remarks(view))}", soft_wrap=True)


def _remarks(view: "TenantView") -> str:
    remarks = []
    if view.epoch is not None and view.epoch.is_frozen:
        remarks.append("frozen: it goes on learning, but publishes nothing until 'alignstream state thaw'")
    if view.state is None:
        return "; ".join(remarks) or "active"
    summary = view.state.summary
    if summary.is_frozen and not remarks:
        remarks.append("frozen before its first epoch")
    if summary.frozen_languages:
        remarks.append(f"frozen languages: {', '.join(summary.frozen_languages)}")
    if summary.suspended:
        remarks.append(f"learning is suspended: {summary.suspended}")
    if summary.refusal is not None:
        remarks.append(f"epoch {summary.refusal.number} was refused: {summary.refusal.reason}")
    if summary.n_doubtful:
        remarks.append(
            f"{summary.n_doubtful} of {summary.n_seen} texts contradict their tag and do not count"
        )
    if summary.n_capped:
        remarks.append(f"{summary.n_capped} texts do not count because their key is over its quota")
    if summary.drift is not None:
        threshold = summary.drift_threshold
        limit = "" if threshold is None else f" (threshold {threshold:.2f})"
        remarks.append(f"drift {summary.drift:.2f}{limit}; {summary.n_drifts} changes so far")
    return "; ".join(remarks) or "active"


def _request(
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
        raise LearnerError(
            f"the learner does not know {named}; 'alignstream state show' lists the known ones"
        )
    fingerprint = before[0].encoder if encoder is not None else None
    control = Control(id=state.control_id(), action=action, encoder=fingerprint, tenant=tenant, **fields)
    views = state.tenants(state.request(settings, control), tenant=tenant, encoder=encoder)
    if as_json:
        print_json([_plain(view) for view in views])
    else:
        _table(views)


@state_app.command("freeze")
def freeze(
    tenant: Tenant = None, language: Language = None, encoder: Encoder = None, as_json: AsJson = False
) -> None:
    """Keep the epoch that serves: the learner goes on learning, but publishes nothing until 'thaw'.

    With --language, only the mean of that language is frozen.
    """
    _request("freeze", tenant=tenant, encoder=encoder, as_json=as_json, language=_checked(language))


@state_app.command("thaw")
def thaw(
    tenant: Tenant = None, language: Language = None, encoder: Encoder = None, as_json: AsJson = False
) -> None:
    """Undo 'freeze', and resume learning that was suspended because of suspicious keys in the stream.

    With --language, only the mean of that language is thawed.
    """
    _request("thaw", tenant=tenant, encoder=encoder, as_json=as_json, language=_checked(language))


def _checked(language: str | None) -> str | None:
    from alignstream.models.adapter.languages import language_key

    if language is not None and language_key(language) is None:
        raise LearnerError(f"{language!r} is not a language tag: give a BCP-47 tag such as 'pt-BR'")
    return language


@state_app.command("publish")
def publish(tenant: Tenant = None, encoder: Encoder = None, as_json: AsJson = False) -> None:
    """Open an epoch now, from what has been learned so far."""
    _request("publish", tenant=tenant, encoder=encoder, as_json=as_json)


@state_app.command("reset")
def reset(
    tenant: OneTenant, language: Language = None,
    encoder: Encoder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Forget what was learned from a tenant's unlabelled texts, in one language or all; pairs and examples stay."""
    _request("reset", tenant=tenant, encoder=encoder, as_json=as_json, language=_checked(language))


@state_app.command("rollback")
def rollback(
    tenant: OneTenant,
    to: Annotated[
        int | None, typer.Option("--to", help="Epoch. Default: the one before the current one.")
    ] = None,
    encoder: Encoder = None,
    as_json: AsJson = False,
) -> None:
    """Serve an older epoch and freeze the tenant, so that nothing overwrites it until 'thaw'."""
    from alignstream.ops.admin import learner_state as state
    from alignstream.streams.settings import load

    epochs = {
        view.encoder: view.epoch
        for view in state.tenants(state.read_log(load()), tenant=tenant, encoder=encoder)
        if view.epoch is not None
    }
    if not epochs:
        raise LearnerError(f"tenant {tenant!r} has no epoch to go back from")
    if len(epochs) > 1:
        raise LearnerError(
            f"tenant {tenant!r} has epochs of {len(epochs)} encoders: choose one with --encoder"
        )
    ((fingerprint, epoch),) = epochs.items()
    numbers = [version.number for version in epoch.history]
    older = [number for number in numbers if number < epoch.current.number]
    number = to if to is not None else max(older, default=None)
    if number is None or (to is not None and to not in numbers):
        kept = ", ".join(map(str, numbers)) or "none"
        raise LearnerError(f"tenant {tenant!r} has no such older epoch; these are kept: {kept}")
    _request("rollback", tenant=tenant, encoder=fingerprint, as_json=as_json, epoch=number)


@state_app.command("pairs")
def pairs(tenant: OneTenant, encoder: Encoder = None, as_json: AsJson = False) -> None:
    """List the translation memory that serves a tenant: the pairs of pairs.v1 that were sent with 'learn'."""
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
    pair: Annotated[str, typer.Argument(metavar="PAIR", help="Its id, as 'pairs' lists it.")], tenant: OneTenant,
    encoder: Encoder = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Forget one pair: it leaves the memory, and the tenant's map is fitted again without it."""
    _request("forget-pair", tenant=tenant, encoder=encoder, as_json=as_json, pair_id=pair)
