"""Look at everything that a worker needs, and say what to do about what is wrong.

Changes nothing that serves; it may assemble the embedded encoder and refresh the last good copies on disk.
"""

import asyncio
import os
import shutil
import socket
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from alignstream.export.encoders.embedded import embedded_fingerprint
from alignstream.models.adapter import adapter as adapters
from alignstream.models.encoder.artifact import read_manifest
from alignstream.models.errors import AlignstreamError, BrokerNotReady, RegistryError, SettingsError
from alignstream.models.registry.follower import Catalogue, Follower
from alignstream.ops.admin import adapters as registry
from alignstream.ops.admin import learner_state as state
from alignstream.ops.admin.encoder_choice import open_encoder
from alignstream.streams.kafka.broker import input_limit_exceeds_dead_letters, output_limit, record_limits
from alignstream.streams.kafka.connections import open_store
from alignstream.streams.settings import Settings, load
from alignstream.streams.wire.topics import DEAD_LETTERS

#: The embedded encoder and a few adapters.
MIN_FREE_BYTES: Final = 1024**3


class Check(NamedTuple):
    """What was found, and what to do about it."""

    name: str
    state: Literal["ok", "warning", "problem"]
    message: str
    remedy: str = ""


def examine(*, with_encoder: bool = True) -> list[Check]:
    """Run every check; one that fails does not keep the others from running."""
    try:
        settings = load()
    except SettingsError as error:
        return [
            Check("settings", "problem", str(error), "correct it; 'alignstream config' lists every setting")
        ]
    checks = [Check("settings", "ok", "all known and well-formed")]
    looks: list[Callable[[Settings], list[Check]]] = [_disk, _port, _broker, _learner, _redis]
    for look in looks:
        checks += look(settings)
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
            remedy = f"set ALIGNSTREAM_{name.upper()}_DIR to a folder that can be written"
            checks.append(Check(f"{name} folder", "problem", f"{folder}: {error.strerror}", remedy))
            continue
        if not os.access(folder, os.W_OK):
            remedy = f"set ALIGNSTREAM_{name.upper()}_DIR to a folder that can be written"
            checks.append(Check(f"{name} folder", "problem", f"{folder} cannot be written", remedy))
        elif free_bytes < MIN_FREE_BYTES:
            checks.append(
                Check(f"{name} folder", "warning", f"{folder}: {free_bytes // 2**20} MiB free", "make room")
            )
        else:
            checks.append(Check(f"{name} folder", "ok", f"{folder}: {free_bytes // 2**30} GiB free"))
    return checks


def _port(settings: Settings) -> list[Check]:
    place = f"{settings.metrics_host}:{settings.metrics_port}"
    if settings.metrics_port == 0:
        return [Check("metrics port", "ok", "any free one")]
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.metrics_host, settings.metrics_port))
        except OSError as error:
            message = f"{place}: {error.strerror}"
            return [
                Check(
                    "metrics port",
                    "warning",
                    message,
                    "fine if that is a running worker; else choose another",
                )
            ]
    return [Check("metrics port", "ok", f"{place} is free")]


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
            f"{DEAD_LETTERS} accepts {limits[DEAD_LETTERS]} bytes: less than the input topic plus 64 KiB"
        )
        checks.append(Check("topics", "warning", message, "raise its max.message.bytes"))
    if output_limit(settings, limits) < settings.max_output_bytes:
        message = f"the output topics accept {output_limit(settings, limits)} bytes"
        checks.append(
            Check("topics", "warning", message, "raise their max.message.bytes, or lower the setting")
        )
    return checks


def _learner(settings: Settings) -> list[Check]:
    if settings.follow == "off":
        return [Check("learner", "ok", "queries do not follow the stream (ALIGNSTREAM_FOLLOW=off)")]
    try:
        log = state.read_log(settings)
    except AlignstreamError:
        return []  # said of the broker already
    remedy = "start one: 'alignstream learner'; workers serve on meanwhile"
    if log.claim is None:
        return [Check("learner", "warning", "none has run yet: queries do not follow the stream", remedy)]
    if log.claim.is_released:
        return [Check("learner", "warning", "none works now: the last one has ended", remedy)]
    checks = [Check("learner", "ok", f"works; {len(log.epochs)} tenant(s) have an epoch")]
    for view in state.tenants(log):
        checks += _tenant(view)
    return checks


def _tenant(view: state.TenantView) -> list[Check]:
    """Say what keeps a tenant's queries from following its stream."""
    if view.state is None:
        return []
    name, summary = f"tenant {view.tenant}", view.state.summary
    checks = []
    if summary.suspended:
        message = f"nothing is learned from its stream: {summary.suspended}"
        remedy = "find out who sends it; 'alignstream state thaw --tenant' learns again"
        checks.append(Check(name, "warning", message, remedy))
    serving = 0 if view.epoch is None else view.epoch.current.number
    if summary.refusal is not None and summary.refusal.number > serving:
        message = f"epoch {summary.refusal.number} was refused, {serving or 'none'} serves: {summary.refusal.reason}"
        checks.append(Check(name, "warning", message, "'alignstream state reset --tenant' begins anew"))
    return checks


def _redis(settings: Settings) -> list[Check]:
    store = open_store(settings)
    try:
        names = store.pointers("adapter")
    except RegistryError as error:
        remedy = "workers go on with their last good adapter; start Redis, or correct ALIGNSTREAM_REDIS_URL"
        return [Check("redis", "problem", str(error), remedy)]
    finally:
        store.close()
    return [Check("redis", "ok", f"answers; {len(names)} adapter(s) in the registry")]


def _adapter(settings: Settings, fingerprint: str, dim: int | None) -> list[Check]:
    found, follower = registry.catalogue(settings, encoder=fingerprint, dim=dim or 1)
    checks = [
        Check(f"{kind} {name}", "problem", message, "push it again, or roll back; the last good one serves")
        for (kind, name), message in follower.problems.items()
        if name != "*"
    ]
    served = found.adapters.get(settings.adapter)
    if served is None:
        remedy = "push one with 'alignstream adapters push', or set ALIGNSTREAM_ADAPTER=identity"
        message = f"no adapter {settings.adapter!r} for encoder {fingerprint[:12]}"
        return [*checks, Check("adapter", "problem", message, remedy)]
    version = getattr(served.value, "version", "?")
    if served.source in {"package", "disk"} and settings.adapter != adapters.IDENTITY:
        where = "in the package" if served.source == "package" else "in the last good copy on disk"
        message = f"{settings.adapter} {version} is {where}, and not in Redis"
        checks.append(
            Check("adapter", "warning", message, "publish one: 'alignstream adapters push default'")
        )
    else:
        checks.append(Check("adapter", "ok", f"{settings.adapter} {version} (from {served.source})"))
    if settings.label_set is not None and found.label_set(settings.label_set) is None:
        message = f"no label set {settings.label_set!r}"
        checks.append(Check("labels", "problem", message, "push it: 'alignstream labels push'"))
    return checks + fitted_labels(settings, found) + _gone(follower)


def fitted_labels(settings: Settings, found: Catalogue) -> list[Check]:
    """Warn of label sets that were fitted for something else than what serves: their plain labels are used."""
    checks = []
    adapter = found.adapter(settings.adapter)
    for name in found.label_sets:
        labels = found.label_set(name)
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
        checks.append(
            Check(f"labels {name}", "warning", f"was fitted for {why}: its plain labels serve", remedy)
        )
    return checks


def _gone(follower: Follower) -> list[Check]:
    if follower.registry_is_up and follower.fresh_at is None and not follower.problems:
        message = "Redis answers, but what serves is not in it any more (was it flushed?)"
        return [Check("registry", "problem", message, "push the adapters and label sets again")]
    return []
