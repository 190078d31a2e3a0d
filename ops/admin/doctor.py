"""Check everything that a worker needs, and say what to do about what is wrong.

Changes nothing that serves; it may assemble the embedded encoder and refresh the last good copies on disk.
"""

import asyncio
import os
import shutil
import socket
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from alignstream.export.encoders.embedded import embedded_fingerprint
from alignstream.models.adapter.adapter import IDENTITY
from alignstream.models.encoder.artifact import read_manifest
from alignstream.models.errors import AlignstreamError, BrokerNotReady, RegistryError, SettingsError
from alignstream.models.registry.follower import Catalogue, Follower
from alignstream.ops.admin import learner_state as state
from alignstream.ops.admin.adapter_choice import catalogue
from alignstream.ops.admin.encoder_choice import open_encoder
from alignstream.streams.kafka.broker import input_limit_exceeds_dead_letters, output_limit, record_limits
from alignstream.streams.kafka.connections import open_store
from alignstream.streams.settings import Settings, load
from alignstream.streams.wire.topics import DEAD_LETTERS

#: Enough for the embedded encoder and a few adapters.
MIN_FREE_BYTES: Final = 1024**3


CheckState = Literal["ok", "warning", "problem"]


class Check(NamedTuple):
    """The result of one check, and what to do about it."""

    name: str
    state: CheckState
    message: str
    remedy: str = ""


def examine(*, with_encoder: bool = True) -> list[Check]:
    """Run every check; a failed one does not stop the others."""
    try:
        settings = load()
    except SettingsError as error:
        return [
            Check("settings", "problem", str(error), "correct it; 'alignstream config' lists every setting")
        ]
    checks = [Check("settings", "ok", "all known and well-formed")]
    parts: list[Callable[[Settings], list[Check]]] = [_disk, _port, _broker, _learner, _redis]
    for check_part in parts:
        checks += check_part(settings)
    fingerprint, dim = embedded_fingerprint(), None
    if settings.artifact is not None:
        try:
            manifest = read_manifest(settings.artifact)
            fingerprint, dim = manifest.fingerprint, manifest.dim
        except AlignstreamError as error:
            checks.append(
                Check("encoder", "problem", str(error), "export it again: 'alignstream export --help'")
            )
            return checks
    if with_encoder:
        try:
            encoder = open_encoder(settings)
        except AlignstreamError as error:
            checks.append(
                Check("encoder", "problem", str(error), "export it again: 'alignstream export --help'")
            )
            return checks
        fingerprint, dim = encoder.fingerprint, encoder.dim
        message = f"{encoder.manifest.source}, dim {dim}, fingerprint {fingerprint[:12]}: verified and loaded"
        checks.append(Check("encoder", "ok", message))
    return checks + _adapter(settings, fingerprint, dim)


def _disk(settings: Settings) -> list[Check]:
    checks = []
    for name, folder in (("cache", settings.cache_dir), ("state", settings.state_dir)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free_bytes = shutil.disk_usage(folder).free
        except OSError as error:
            remedy = f"set ALIGNSTREAM_{name.upper()}_DIR to a writable folder"
            checks.append(Check(f"{name} folder", "problem", f"{folder}: {error.strerror}", remedy))
            continue
        if not os.access(folder, os.W_OK):
            remedy = f"set ALIGNSTREAM_{name.upper()}_DIR to a writable folder"
            checks.append(Check(f"{name} folder", "problem", f"{folder} is not writable", remedy))
        elif free_bytes < MIN_FREE_BYTES:
            checks.append(
                Check(
                    f"{name} folder",
                    "warning",
                    f"{folder}: {free_bytes // 2**20} MiB free",
                    "free some space",
                )
            )
        else:
            checks.append(Check(f"{name} folder", "ok", f"{folder}: {free_bytes // 2**30} GiB free"))
    return checks


def _port(settings: Settings) -> list[Check]:
    address = f"{settings.metrics_host}:{settings.metrics_port}"
    if settings.metrics_port == 0:
        return [Check("metrics port", "ok", "any free one")]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.metrics_host, settings.metrics_port))
        except OSError as error:
            remedy = "fine if a running worker has it; else set ALIGNSTREAM_METRICS_PORT to another"
            return [Check("metrics port", "warning", f"{address}: {error.strerror}", remedy)]
    return [Check("metrics port", "ok", f"{address} is free")]


def _broker(settings: Settings) -> list[Check]:
    try:
        limits = asyncio.run(record_limits(settings))
    except BrokerNotReady as error:
        return [Check("broker", "problem", str(error))]
    except AlignstreamError as error:
        return [Check("broker", "problem", str(error), "see 'alignstream config'")]
    checks = [Check("broker", "ok", f"{settings.broker} answers; all topics are there")]
    if input_limit_exceeds_dead_letters(limits):
        message = (
            f"{DEAD_LETTERS} accepts {limits[DEAD_LETTERS]} bytes, less than the input topic plus 64 KiB"
        )
        checks.append(Check("topics", "warning", message, "raise its max.message.bytes"))
    if output_limit(settings, limits) < settings.max_output_bytes:
        message = f"the output topics accept {output_limit(settings, limits)} bytes"
        remedy = "raise their max.message.bytes, or lower ALIGNSTREAM_MAX_OUTPUT_BYTES"
        checks.append(Check("topics", "warning", message, remedy))
    return checks


def _learner(settings: Settings) -> list[Check]:
    if settings.follow == "off":
        return [Check("learner", "ok", "not needed: queries do not adapt (ALIGNSTREAM_FOLLOW=off)")]
    try:
        log = state.read_log(settings)
    except AlignstreamError:
        return []  # the broker's check has said so already
    remedy = "start one with 'alignstream learner'; workers go on serving in the meantime"
    if log.claim is None:
        return [Check("learner", "warning", "none has run yet, so queries do not adapt", remedy)]
    if log.claim.is_released:
        return [Check("learner", "warning", "none is running: the last one has ended", remedy)]
    checks = [Check("learner", "ok", f"running; {_count(len(log.epochs), 'tenant')} with an epoch")]
    for view in state.tenants(log):
        checks += _tenant(view)
    return checks


def _tenant(view: state.TenantView) -> list[Check]:
    """Say what keeps a tenant's queries from adapting to its stream."""
    if view.state is None:
        return []
    name, summary = f"tenant {view.tenant}", view.state.summary
    checks = []
    if summary.suspended:
        message = f"learning from its stream is suspended: {summary.suspended}"
        remedy = "find out who sends these texts; 'alignstream state thaw --tenant' resumes learning"
        checks.append(Check(name, "warning", message, remedy))
    serving = 0 if view.epoch is None else view.epoch.current.number
    if summary.refusal is not None and summary.refusal.number > serving:
        message = f"epoch {summary.refusal.number} was refused, {serving or 'none'} serves: {summary.refusal.reason}"
        checks.append(Check(name, "warning", message, "'alignstream state reset --tenant' starts over"))
    return checks


def _redis(settings: Settings) -> list[Check]:
    store = open_store(settings)
    try:
        names = store.pointers("adapter")
    except RegistryError as error:
        remedy = "start Redis or correct ALIGNSTREAM_REDIS_URL; workers go on with their last good adapter"
        return [Check("redis", "problem", str(error), remedy)]
    finally:
        store.close()
    return [Check("redis", "ok", f"answers; {_count(len(names), 'adapter')} in the registry")]


def _adapter(settings: Settings, fingerprint: str, dim: int | None) -> list[Check]:
    served, follower = catalogue(settings, encoder=fingerprint, dim=dim or 1)
    checks = [
        Check(f"{kind} {name}", "problem", message, "push it again, or roll back; the last good one serves")
        for (kind, name), message in follower.problems.items()
        if name != "*"
    ]
    adapter = served.adapters.get(settings.adapter)
    if adapter is None:
        remedy = "push one with 'alignstream adapters push', or set ALIGNSTREAM_ADAPTER=identity"
        message = f"no adapter {settings.adapter!r} for encoder {fingerprint[:12]}"
        return [*checks, Check("adapter", "problem", message, remedy)]
    version = getattr(adapter.value, "version", "?")
    if adapter.source in {"package", "disk"} and settings.adapter != IDENTITY:
        where = "in the package" if adapter.source == "package" else "as the last good copy on disk"
        message = f"{settings.adapter} {version} is available {where}, but not in Redis"
        checks.append(
            Check("adapter", "warning", message, "publish one: 'alignstream adapters push default'")
        )
    else:
        checks.append(Check("adapter", "ok", f"{settings.adapter} {version} (from {adapter.source})"))
    if settings.label_set is not None and served.label_set(settings.label_set) is None:
        message = f"no label set {settings.label_set!r}"
        checks.append(Check("labels", "problem", message, "push it: 'alignstream labels push'"))
    return checks + fitted_labels(settings, served) + _flushed(follower)


def fitted_labels(settings: Settings, served: Catalogue) -> list[Check]:
    """Warn of label sets fitted for another encoder, adapter or template: their plain labels serve instead."""
    checks = []
    adapter = served.adapter(settings.adapter)
    for name in served.label_sets:
        labels = served.label_set(name)
        if labels is None or labels.fitted is None or adapter is None:
            continue
        fitted, template = labels.fitted, labels.template or settings.template
        if fitted.serves(adapter, template):
            continue
        if fitted.encoder != adapter.encoder:
            why = f"encoder {fitted.encoder[:12]} while {adapter.encoder[:12]} serves"
        elif fitted.adapter_version != adapter.version:
            why = f"adapter {fitted.adapter_version} while {adapter.version} serves"
        else:
            why = f"the template {fitted.template!r} while {template!r} serves"
        remedy = f"fit it again: 'alignstream labels fit {name} --text FILE'"
        message = f"was fitted for {why}: its plain labels serve"
        checks.append(Check(f"labels {name}", "warning", message, remedy))
    return checks


def _flushed(follower: Follower) -> list[Check]:
    if follower.registry_is_up and follower.fresh_at is None and not follower.problems:
        message = "Redis answers, but what serves is no longer in it (was it flushed?)"
        return [Check("registry", "problem", message, "push the adapters and label sets again")]
    return []


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")
