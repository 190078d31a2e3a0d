"""The deployment files agree with each other and with the code, as far as that can be told without an engine."""

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import typer.core
import typer.main
import yaml

from alignstream.ops.cli import app
from alignstream.streams import settings
from alignstream.streams.learner.metrics import LearnerMetrics

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ALERTS = yaml.safe_load((ROOT / "ops/deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [rule for group in ALERTS["groups"] for rule in group["rules"]]
PROMETHEUS = yaml.safe_load((ROOT / "ops/deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))
DASHBOARD = json.loads((ROOT / "ops/deploy/grafana/dashboards/alignstream.json").read_text(encoding="utf-8"))
DOCKERFILE = (ROOT / "ops/deploy/docker/Dockerfile").read_text(encoding="utf-8")
RUNBOOKS = sorted((ROOT / "ops/runbooks").glob("*.md"))

PROFILES = {"prometheus": "monitoring", "grafana": "monitoring", "kafka-ui": "ui"}
ONE_SHOTS = {"init"}
#: Keys of the Compose Specification that the file uses; a misspelt one would be ignored or refused.
SERVICE_KEYS = {
    "build",
    "cap_drop",
    "command",
    "depends_on",
    "entrypoint",
    "environment",
    "expose",
    "healthcheck",
    "image",
    "init",
    "logging",
    "mem_limit",
    "pids_limit",
    "ports",
    "profiles",
    "pull_policy",
    "read_only",
    "restart",
    "security_opt",
    "stop_grace_period",
    "tmpfs",
    "ulimits",
    "user",
    "volumes",
}
HEALTHCHECK_KEYS = {"test", "interval", "timeout", "retries", "start_period", "start_interval"}
#: ``name:version`` with at least three numbers, and perhaps a variant and a digest behind it.
PINNED = re.compile(r"^[a-z0-9./_-]+:v?\d+\.\d+\.\d+(-[a-z0-9.-]+)?(@sha256:[0-9a-f]{64})?$")

COUNTERS_AND_GAUGES = {
    "alignstream_records_consumed_total",
    "alignstream_records_published_total",
    "alignstream_records_dead_lettered_total",
    "alignstream_records_truncated_total",
    "alignstream_tombstones_total",
    "alignstream_inflight_records",
    "alignstream_buffer_records",
    "alignstream_consumer_lag_records",
    "alignstream_consumer_lag_seconds",
    "alignstream_last_progress_timestamp_seconds",
    "alignstream_commit_age_seconds",
    "alignstream_rebalances_total",
    "alignstream_produce_errors_total",
    "alignstream_observations_dropped_total",
    "alignstream_event_loop_lag_seconds",
    "alignstream_adapter_info",
    "alignstream_adapter_age_seconds",
    "alignstream_adapter_stale_seconds",
    "alignstream_registry_rejected_total",
    "alignstream_registry_up",
    "alignstream_registry_swaps_total",
    "alignstream_encoder_info",
    "alignstream_worker_ready",
}
HISTOGRAMS = {
    "alignstream_batch_records",
    "alignstream_batch_tokens",
    "alignstream_stage_duration_seconds",
    "alignstream_end_to_end_latency_seconds",
}
#: Of the learner alone.
LEARNER = {
    "alignstream_learner_active",
    "alignstream_learner_observations",
    "alignstream_learner_tenants",
    "alignstream_learner_tenants_frozen",
    "alignstream_learner_tenants_refused",
    "alignstream_learner_tenants_suspended",
    "alignstream_epochs_opened_total",
    "alignstream_epochs_refused_total",
    "alignstream_epoch_last_opened_timestamp_seconds",
    "alignstream_drift_ratio",
    "alignstream_drifts_confirmed",
}
#: Both are exported by prometheus_client's own process collector.
PROCESS = {"process_resident_memory_bytes", "process_start_time_seconds"}
METRICS = (
    COUNTERS_AND_GAUGES
    | LEARNER
    | PROCESS
    | {f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "count", "sum")}
)
PROMQL_WORDS = {"and", "or", "unless", "offset", "bool"}


def metrics_of(expression: str) -> set[str]:
    """Return the metric names in a PromQL expression."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    names = re.findall(r"(?<![\w.$])[A-Za-z_:][\w:]*(?!\w*\s*\()", bare)
    return set(names) - PROMQL_WORDS


def environment_of(service: str) -> dict[str, str]:
    """Return the environment of a service, as text."""
    return {name: str(value) for name, value in SERVICES[service].get("environment", {}).items()}


def dockerfile_instructions() -> list[tuple[str, str]]:
    """Return instruction and arguments, line by line, with comments dropped and continuations joined."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    pairs = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(name, " ".join(rest.split())) for name, rest in pairs]


def dockerfile_stages() -> dict[str, str]:
    """Return the image or stage that each named stage starts from, build arguments filled in."""
    defaults = dict(rest.split("=", 1) for name, rest in dockerfile_instructions() if name == "ARG")
    stages = {}
    for name, rest in dockerfile_instructions():
        if name == "FROM":
            parts = re.fullmatch(r"(\S+) AS (\w+)", rest)
            assert parts is not None, f"a stage without a name: FROM {rest}"
            stages[parts[2]] = re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], parts[1])
    return stages


def dockerfile_environment() -> dict[str, str]:
    """Return what ENV sets in the last stage."""
    found: dict[str, str] = {}
    for name, rest in dockerfile_instructions():
        if name == "FROM":
            found = {}
        elif name == "ENV":
            found |= dict(pair.split("=", 1) for pair in shlex.split(rest))
    return found


def commands_in(text: str) -> Iterator[list[str]]:
    """Yield the words behind ``alignstream`` wherever a text shows a command."""
    for found in re.finditer(
        r"(?<![\w./-])alignstream((?: (?:--)?[a-z][a-z-]*(?= |$|`))+)", text, re.MULTILINE
    ):
        yield found[1].split()


#: Made once: it takes a tenth of a second.
COMMANDS = typer.main.get_command(app)


def assert_is_a_command(words: list[str]) -> None:
    command: Any = COMMANDS
    rest = list(words)
    while isinstance(command, typer.core.TyperGroup) and rest:
        known = command.commands.get(rest[0])
        assert known is not None, f"alignstream {' '.join(words)}: there is no command {rest[0]!r}"
        command, rest = known, rest[1:]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    unknown = {word for word in rest if word.startswith("--")} - options
    assert not unknown, f"alignstream {' '.join(words)}: no option {unknown}"


def test_the_compose_file_has_the_expected_services_in_the_expected_profiles() -> None:
    assert set(COMPOSE) - {key for key in COMPOSE if key.startswith("x-")} == {"name", "services", "volumes"}
    assert set(SERVICES) == {"kafka", "redis", "init", "worker", "learner", *PROFILES}
    for name, service in SERVICES.items():
        assert service.get("profiles", []) == ([PROFILES[name]] if name in PROFILES else []), name


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_uses_known_keys_only(name: str) -> None:
    assert set(SERVICES[name]) <= SERVICE_KEYS
    assert set(SERVICES[name].get("healthcheck", {})) <= HEALTHCHECK_KEYS


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_a_pinned_image(name: str) -> None:
    assert PINNED.match(SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_no_privilege_that_it_does_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), "a numeric user that is not root"
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_says_when_it_is_healthy_and_comes_back_unless_it_is_a_one_shot(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOTS:
        assert service["restart"] == "no"
    else:
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
        assert service["restart"] == "unless-stopped"
        assert service["stop_grace_period"] == "60s"


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_the_loopback_address_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert str(port).startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_every_mounted_path_exists_and_every_named_volume_is_declared(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        if isinstance(volume, dict):  # an unnamed volume, one for each replica
            assert set(volume) == {"type", "target"}
            continue
        source, _, rest = volume.partition(":")
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert rest.endswith(":ro"), f"{source} is mounted writable"
        else:
            assert source in COMPOSE["volumes"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_only_for_services_that_can_answer(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        needs = {"service_healthy": "healthcheck", "service_completed_successfully": "command"}
        key = needs.get(wait["condition"])
        assert key is None or key in SERVICES[other]
        assert other not in PROFILES or PROFILES[other] == PROFILES.get(name)


@pytest.mark.parametrize("name", ["worker", "learner"])
def test_workers_and_learners_can_be_scaled(name: str) -> None:
    assert not {"container_name", "ports", "hostname"} & set(SERVICES[name])
    own = {"type": "volume", "target": dockerfile_environment()["ALIGNSTREAM_STATE_DIR"]}
    assert own in SERVICES[name]["volumes"], "replicas would share what each needs for itself"


def test_the_learner_is_the_image_of_the_worker_with_another_command() -> None:
    assert SERVICES["learner"]["command"] == ["learner"]
    assert SERVICES["learner"]["image"] == SERVICES["worker"]["image"]
    assert SERVICES["learner"]["depends_on"] == SERVICES["worker"]["depends_on"]
    assert_is_a_command(SERVICES["learner"]["command"])


def test_settings_in_the_image_and_in_the_compose_file_are_known_and_valid(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(settings.PREFIX)]:
        monkeypatch.delenv(name)
    for service in ("init", "worker", "learner"):
        for name, value in (dockerfile_environment() | environment_of(service)).items():
            if name.startswith(settings.PREFIX):
                monkeypatch.setenv(name, value)
        settings.load()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param((ROOT / "docker-compose.yml").read_text(encoding="utf-8"), id="docker-compose.yml"),
        pytest.param(DOCKERFILE, id="Dockerfile"),
        *(pytest.param(path.read_text(encoding="utf-8"), id=path.name) for path in RUNBOOKS),
    ],
)
def test_every_setting_that_is_named_exists(text: str) -> None:
    known = {
        settings.PREFIX + name.upper() for name in settings.Settings.model_fields
    } | settings.NOT_SETTINGS
    assert set(re.findall(r"\bALIGNSTREAM_\w+", text)) <= known


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\n".join(SERVICES["init"]["command"]), id="init"),
        pytest.param(DOCKERFILE.replace("/opt/alignstream/venv/bin/", ""), id="Dockerfile"),
        *(pytest.param(path.read_text(encoding="utf-8"), id=path.name) for path in RUNBOOKS),
    ],
)
def test_every_command_that_is_shown_exists(text: str) -> None:
    commands = list(commands_in(text))
    assert commands
    for words in commands:
        assert_is_a_command(words)


def test_the_compose_plugin_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("there is no docker command")
    if subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("docker has no compose plugin")
    command = [docker, "compose", "--profile", "monitoring", "--profile", "ui", "config", "--quiet"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_image_has_the_version_of_the_package() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    for service in ("init", "worker", "learner"):
        assert SERVICES[service]["image"].endswith(f":{version}")
        assert SERVICES[service]["pull_policy"] == "build", "a stranger's image of this name would be pulled"


def test_the_compose_file_builds_a_stage_of_the_dockerfile() -> None:
    build = SERVICES["worker"]["build"]
    assert (ROOT / build["dockerfile"]).is_file()
    assert build["target"] == list(dockerfile_stages())[-1]


def test_every_stage_starts_from_a_pinned_image_or_from_another_stage() -> None:
    stages = dockerfile_stages()
    assert len(stages) > 1
    for start in stages.values():
        assert start in stages or PINNED.match(start)
    assert stages["runtime"].startswith("python:3.11.")


def test_everything_that_is_copied_into_the_image_exists_and_is_not_ignored() -> None:
    allowed = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line[:1] == "!"
    }
    stages = dockerfile_stages()
    copies = [rest.split() for name, rest in dockerfile_instructions() if name == "COPY"]
    assert copies
    for words in copies:
        stage = next((word.removeprefix("--from=") for word in words if word.startswith("--from=")), None)
        if stage is not None:
            assert stage in stages
            continue
        for source in [word for word in words if not word.startswith("--")][:-1]:
            assert (ROOT / source).exists(), source
            assert source in allowed, f"{source} is ignored by .dockerignore"


def test_the_image_runs_as_a_user_without_a_compiler() -> None:
    instructions = dockerfile_instructions()
    last = [position for position, (name, _) in enumerate(instructions) if name == "FROM"][-1]
    final = instructions[last:]
    assert ("USER", "10001:10001") in final
    assert ("ENTRYPOINT", '["alignstream"]') in final
    assert ("CMD", '["worker"]') in final
    assert SERVICES["worker"]["user"] == "10001:10001"
    assert not re.search(r"apt|gcc|build-essential|pip install", " ".join(rest for _, rest in final))


def test_prometheus_scrapes_the_ports_that_workers_and_learners_serve() -> None:
    jobs = {job["job_name"]: job["dns_sd_configs"] for job in PROMETHEUS["scrape_configs"]}
    assert set(jobs) == {"alignstream", "alignstream-learner"}
    for job, service in (("alignstream", "worker"), ("alignstream-learner", "learner")):
        port = int(environment_of(service)["ALIGNSTREAM_METRICS_PORT"])
        ((found,),) = (jobs[job],)
        assert (found["names"], found["port"]) == ([service], port)
        assert f":{port}/readyz" in " ".join(SERVICES[service]["healthcheck"]["test"])
    mounted = {volume.split(":")[1] for volume in SERVICES["prometheus"]["volumes"]}
    assert set(PROMETHEUS["rule_files"]) <= mounted


def test_alerts_and_panels_name_jobs_that_are_scraped() -> None:
    jobs = {job["job_name"] for job in PROMETHEUS["scrape_configs"]}
    expressions = [str(rule["expr"]) for rule in RULES]
    expressions += [target["expr"] for panel in panels() for target in panel.get("targets", [])]
    named = re.findall(r'job=(~?)"([^"]+)"', " ".join(expressions))
    assert named
    for is_pattern, name in named:
        meant = name.replace("$job", "alignstream")
        assert any(re.fullmatch(meant, job) if is_pattern else meant == job for job in jobs), name


def test_the_learner_has_the_metrics_that_are_listed_here() -> None:
    registry = prometheus_client.CollectorRegistry()
    LearnerMetrics(registry)
    names = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in registry.collect()
    }
    assert names == LEARNER


def test_metric_names_are_found_in_an_expression() -> None:
    expression = 'sum by (le) (rate(a_bucket{job="b"}[5m] offset 10m)) / on (x) c > 0.5 and absent(d == 1)'
    expression += " or time() - e"
    assert metrics_of(expression) == {"a_bucket", "c", "d", "e"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_uses_known_metrics_and_names_a_runbook_that_lists_it(rule: dict[str, Any]) -> None:
    used = metrics_of(rule["expr"])
    assert used
    assert used <= METRICS
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert f"`{rule['alert']}`" in (ROOT / rule["annotations"]["runbook"]).read_text(encoding="utf-8")


def test_alerts_have_names_of_their_own_and_runbooks_name_no_other() -> None:
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names)
    for page in RUNBOOKS:
        assert set(re.findall(r"`(Alignstream\w+)`", page.read_text(encoding="utf-8"))) <= set(names)


def test_the_memory_alert_knows_the_limit_of_the_worker() -> None:
    (rule,) = (rule for rule in RULES if rule["alert"] == "AlignstreamMemory")
    assert SERVICES["worker"]["mem_limit"] == "2g"
    assert str(2 * 1024**3) in rule["expr"]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = DASHBOARD["panels"]
    return found


def test_the_dashboard_has_a_row_for_each_subject() -> None:
    rows = [panel["title"] for panel in panels() if panel["type"] == "row"]
    assert rows == [
        "Flow", "Latency by stage", "Dead letters", "Adapter and registry", "Following", "Resources"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "panel", [panel for panel in panels() if panel["type"] != "row"], ids=lambda panel: str(panel["title"])
)
def test_a_panel_uses_known_metrics_of_the_provisioned_data_source(panel: dict[str, Any]) -> None:
    path = ROOT / "ops/deploy/grafana/provisioning/datasources/prometheus.yml"
    (source,) = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    assert panel["description"]
    assert panel["targets"]
    for target in panel["targets"]:
        used = metrics_of(target["expr"])
        assert used
        assert used <= METRICS
        assert target["datasource"] == panel["datasource"] == {"type": "prometheus", "uid": source["uid"]}


def test_panels_neither_overlap_nor_share_an_id() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        position = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(position["x"], position["x"] + position["w"])
            for y in range(position["y"], position["y"] + position["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_every_metric_is_on_the_dashboard() -> None:
    shown = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for panel in panels()
        for target in panel.get("targets", [])
        for name in metrics_of(target["expr"])
    }
    assert shown >= COUNTERS_AND_GAUGES | LEARNER | HISTOGRAMS | PROCESS


def test_grafana_finds_the_dashboard_where_it_is_mounted() -> None:
    path = ROOT / "ops/deploy/grafana/provisioning/dashboards/alignstream.yml"
    (provider,) = yaml.safe_load(path.read_text(encoding="utf-8"))["providers"]
    mounts = {
        target: source
        for source, target, *_ in (volume.split(":") for volume in SERVICES["grafana"]["volumes"])
    }
    assert (ROOT / mounts[provider["options"]["path"]] / "alignstream.json").is_file()
    assert environment_of("grafana")["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == (
        f"{provider['options']['path']}/alignstream.json"
    )


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: str(page.name))
def test_links_between_runbooks_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
