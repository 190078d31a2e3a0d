"""The probes answer on their own thread, and say what is wrong."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from alignstream.models.errors import AlignstreamError
from alignstream.streams.observe import health as health_module
from alignstream.streams.observe.health import MAX_LOOP_AGE_SECONDS, Health, HealthServer
from alignstream.streams.observe.sensors import Metrics

LOOPBACK = "127.0.0.1"


class Probes:
    """A server with everything behind it."""

    def __init__(self) -> None:
        self.health = Health()
        self.metrics = Metrics()
        self.n_scrapes = 0
        self.server = HealthServer(
            LOOPBACK, 0, health=self.health, metrics=self.metrics, before_scrape=self._before_scrape
        )

    def _before_scrape(self) -> None:
        self.n_scrapes += 1
        self.metrics.commit_age.set(42.0)

    def get(self, path: str) -> tuple[int, str]:
        url = f"http://{LOOPBACK}:{self.server.port}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@pytest.fixture
def probes() -> Iterator[Probes]:
    found = Probes()
    yield found
    found.server.close()


def test_a_worker_is_ready_when_encoder_adapter_and_broker_are(probes: Probes) -> None:
    status, body = probes.get("/readyz")
    assert (status, set(json.loads(body)["waiting"])) == (503, {"encoder", "adapter", "broker"})
    for condition in ("encoder", "adapter"):
        probes.health.set(condition, None)
    probes.health.set("broker", "the broker does not answer")
    status, body = probes.get("/readyz")
    assert (status, json.loads(body)["waiting"]) == (503, {"broker": "the broker does not answer"})
    probes.health.set("broker", None)
    assert probes.get("/readyz") == (200, '{"ready": true, "waiting": {}}\n')


def test_a_worker_that_waits_is_alive(probes: Probes) -> None:
    assert probes.get("/livez") == (200, '{"alive": true, "reason": null}\n')


def test_a_stalled_worker_is_dead(probes: Probes) -> None:
    probes.health.stalled = "4 records wait and nothing moved for 120 s"
    status, body = probes.get("/livez")
    assert status == 503
    assert "4 records wait" in body


def test_a_loop_that_stopped_turning_is_dead_and_alive_again_when_it_turns(
    probes: Probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    probes.health.loop_turned()
    assert probes.get("/livez")[0] == 200
    later = time.monotonic() + MAX_LOOP_AGE_SECONDS + 1
    monkeypatch.setattr(health_module.time, "monotonic", lambda: later)
    assert probes.health.death() is not None
    probes.health.loop_turned()
    assert probes.health.death() is None


def test_metrics_are_brought_up_to_date_before_they_are_written(probes: Probes) -> None:
    status, body = probes.get("/metrics")
    assert status == 200
    assert "alignstream_commit_age_seconds 42.0" in body
    assert probes.n_scrapes == 1


def test_any_other_path_is_not_found_and_names_those_that_are(probes: Probes) -> None:
    status, body = probes.get("/table/../../etc/passwd")
    assert status == 404
    assert json.loads(body) == {"paths": ["/livez", "/readyz", "/metrics"]}


def test_an_address_in_use_is_an_error_that_says_what_to_set(probes: Probes) -> None:
    with pytest.raises(AlignstreamError, match="ALIGNSTREAM_METRICS_PORT"):
        HealthServer(
            LOOPBACK,
            probes.server.port,
            health=probes.health,
            metrics=probes.metrics,
            before_scrape=lambda: None,
        )
