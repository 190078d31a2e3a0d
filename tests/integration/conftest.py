"""A real broker and a real Redis for the session; fresh topics, group, registry and state for each test."""

import contextlib
import gc
import logging
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from one_encoder import OneEncoder
from oracle import Outputs, open_producer
from running_learner import ENCODER, Ledger, Observer, StartLearner, adapter_of, learners
from running_service import SESSION_TIMEOUT_SECONDS, OpenService, RunKafka, Service, StartWorker
from started_servers import environment_of, start_kafka, start_redis, start_tansu
from started_servers import start_worker as start_one_worker
from tiny_encoder import write_artifact

from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.export.encoders.embedded import embedded_fingerprint
from alignstream.export.figures.sources import Sources
from alignstream.models.adapter.shipped import packaged_adapter
from alignstream.models.arrays import Matrix
from alignstream.models.encoder.onnx import OnnxEncoder
from alignstream.models.errors import ProcessError
from alignstream.ops.admin.encoder_choice import artifact_folder
from alignstream.ops.admin.registry import push_adapter
from alignstream.ops.client.broker_topics import create_topics
from alignstream.ops.local.brokers import Broker, kafka_home
from alignstream.ops.local.redis import RedisServer
from alignstream.ops.local.supervised import Worker
from alignstream.streams.settings import NOT_SETTINGS, PREFIX, Settings, load

HERE = Path(__file__).parent
#: Kept from the environment of whoever runs the tests: where things are, not how the service behaves.
KEPT = NOT_SETTINGS | {f"{PREFIX}CACHE_DIR"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session", autouse=True)
def _only_our_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run without the settings of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(PREFIX) and name not in KEPT]:
            patch.delenv(name)
        nothing = tmp_path_factory.mktemp("config") / "alignstream.toml"
        nothing.touch()
        patch.setenv(f"{PREFIX}CONFIG", str(nothing))
        yield


@contextlib.contextmanager
def apache_kafka(folder: Path, overrides: Mapping[str, str] | None = None) -> Iterator[Broker]:
    """Run the Apache Kafka of ``KAFKA_HOME``; else skip with the reason, or fail where CI promises one."""
    if not os.environ.get("KAFKA_HOME"):
        pytest.skip("KAFKA_HOME is not set: there is no Apache Kafka to test on")
    try:
        started = start_kafka(kafka_home(), folder, overrides=overrides)
    except ProcessError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"KAFKA_HOME is set, and no broker can be started from it: {error}")
        pytest.skip(f"KAFKA_HOME is set, and no broker can be started from it: {error}")
    with started:
        yield started


#: Texts that a run may encode for the cache of vectors: some two minutes on one core. Commands measure whole sets.
MAX_ENCODED = 4000
#: In a test's id too: this is how tests on Apache Kafka come to share one process (``tests/conftest.py``).
KAFKA = pytest.param("kafka", marks=pytest.mark.kafka)


@pytest.fixture(scope="session", params=["tansu", KAFKA])
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Yield a running broker: Tansu, and Apache Kafka where ``KAFKA_HOME`` is set."""
    folder = tmp_path_factory.mktemp(request.param)
    with start_tansu(folder) if request.param == "tansu" else apache_kafka(folder) as started:
        yield started


@pytest.fixture(params=[KAFKA])
def own_kafka(tmp_path: Path) -> Iterator[Broker]:
    """Yield an Apache Kafka for this test alone, its data in ``tmp_path / "kafka"``."""
    with apache_kafka(tmp_path / "kafka") as started:
        yield started


@pytest.fixture(scope="session", params=[KAFKA])
def run_kafka() -> RunKafka:
    """Return what runs an Apache Kafka with settings of its own."""
    return apache_kafka


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Yield a running Redis that keeps nothing on disk."""
    with start_redis(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture
def topic_prefix() -> str:
    """Return what stands in front of the topics of this test alone."""
    return f"t{uuid.uuid4().hex[:12]}."


@pytest.fixture
def service_settings(
    broker: Broker, redis_server: RedisServer, topic_prefix: str, tmp_path: Path
) -> Settings:
    """Return settings for this test alone, on a broker that runs and a Redis that is empty."""
    for server in (broker, redis_server):
        server.thaw()  # the test before may have left it frozen, or dead
        if not server.is_running:
            server.restart()
    with contextlib.closing(redis.Redis.from_url(redis_server.url, socket_timeout=5)) as client:
        client.flushall()
    values: dict[str, Any] = {"session_timeout_seconds": SESSION_TIMEOUT_SECONDS, **broker.settings}
    return load(
        broker=broker.address,
        redis_url=redis_server.url,
        topic_prefix=topic_prefix,
        group=f"{topic_prefix}group",
        state_dir=tmp_path / "state",
        metrics_port=0,
        log_format="text",
        **values,
    )


@pytest.fixture
def start_worker(service_settings: Settings, tmp_path: Path) -> Iterator[StartWorker]:
    """Return a factory of worker processes; each gets a log, a metrics port and a state folder of its own."""
    with contextlib.ExitStack() as stack:
        count = 0

        def start(settings: Settings | None = None, **overrides: Any) -> Worker:
            nonlocal count
            count += 1
            settings = settings or service_settings
            own = settings.model_copy(update={"state_dir": tmp_path / f"state-{count}", **overrides})
            environment = environment_of(own)
            return stack.enter_context(
                start_one_worker(environment, tmp_path / "workers", name=f"worker-{count}")
            )

        yield start


@pytest.fixture
def start_learner(tmp_path: Path) -> Iterator[StartLearner]:
    """Return a factory of learner processes; those of one name share a state folder."""
    with learners(tmp_path) as start:
        yield start


@pytest.fixture
def learner_settings(service_settings: Settings) -> Settings:
    """Return settings of this test with topics and an adapter; what was learned is written down every second."""
    create_topics(service_settings)
    push_adapter(service_settings, "default", adapter_of(ENCODER).blob)
    group = f"{service_settings.topic_prefix}learner"
    return service_settings.model_copy(update={"checkpoint_seconds": 1.0, "learner_group": group})


@pytest.fixture
def ledger(learner_settings: Settings) -> Iterator[Ledger]:
    """Return what is in the epoch log of this test."""
    with contextlib.closing(Ledger(learner_settings)) as found:
        yield found


@pytest.fixture
def observer(learner_settings: Settings) -> Iterator[Observer]:
    """Return what writes observations of no real encoder."""
    with contextlib.closing(Observer(learner_settings, ENCODER)) as found:
        yield found


@pytest.fixture(scope="session")
def public_data() -> Path:
    """Return the folder of the public sets. What it should hold and does not is an error, not a skip."""
    folder = os.environ.get("ALIGNSTREAM_DATA")
    if not folder:
        pytest.skip("ALIGNSTREAM_DATA is not set: the public sets are not here")
    return Path(folder)


@pytest.fixture(scope="session")
def vector_cache(one_encoder: OneEncoder, embedded_artifact: Path) -> EmbeddingCache:
    """Return this machine's cache of vectors; it encodes what it lacks, which must be little."""
    fingerprint = embedded_fingerprint()
    adapter = packaged_adapter(fingerprint)
    assert adapter is not None
    n_encoded = 0

    def encode(texts: Sequence[str]) -> Matrix:
        nonlocal n_encoded
        n_encoded += len(texts)
        if n_encoded > MAX_ENCODED:
            pytest.fail(f"these tests encode more than {MAX_ENCODED} texts: take a smaller sample")
        return one_encoder.load(embedded_artifact).encode_texts(texts)

    return EmbeddingCache(load().cache_dir, fingerprint=fingerprint, dim=adapter.dim, encode=encode)


@pytest.fixture(scope="session")
def cached_sources(public_data: Path, vector_cache: EmbeddingCache) -> Sources:
    """Return the public sets with their vectors."""
    return Sources(public_data, vector_cache, encoder=embedded_fingerprint())


@pytest.fixture(scope="session")
def embedded_artifact() -> Path:
    """Return the folder of the embedded encoder; assembled where this machine has not done so before."""
    return artifact_folder(load())


@pytest.fixture(scope="session")
def one_encoder() -> OneEncoder:
    """Return what loads a real encoder, one at a time."""
    return OneEncoder()


@pytest.fixture(scope="module", autouse=True)
def _encoder_goes_with_its_file(one_encoder: OneEncoder) -> Iterator[None]:
    """Let the encoder go that a file's tests have loaded."""
    yield
    one_encoder.drop()


@pytest.fixture
def encoder(one_encoder: OneEncoder, embedded_artifact: Path) -> OnnxEncoder:
    """Return the embedded encoder, loaded where the test before has left another one or none."""
    return one_encoder.load(embedded_artifact)


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an encoder that loads and runs at once."""
    return write_artifact(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session")
def slow_artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an encoder that loads at once, and takes some milliseconds a text, as a real one does."""
    return write_artifact(tmp_path_factory.mktemp("encoder") / "slow", n_work_layers=100)


@pytest.fixture
def slow_settings(service_settings: Settings, slow_artifact: Path, tmp_path: Path) -> Settings:
    """Return settings of this test with the slow encoder and no adapter, the topics made."""
    create_topics(service_settings)
    return service_settings.model_copy(
        update={"artifact": slow_artifact, "cache_dir": tmp_path / "cache", "adapter": "identity"}
    )


@pytest.fixture(scope="module")
def open_service(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> OpenService:
    """Return what starts a worker that the tests of a module share."""

    @contextlib.contextmanager
    def run(
        artifact: Path,
        *,
        prepare: Callable[[Settings], object] = lambda _: None,
        **overrides: Any,
    ) -> Iterator[Service]:
        folder = tmp_path_factory.mktemp("service")
        prefix = f"s{uuid.uuid4().hex[:12]}."
        with start_redis(folder / "redis") as server:
            values = {
                "broker": broker.address,
                "redis_url": server.url,
                "topic_prefix": prefix,
                "group": f"{prefix}group",
                "artifact": artifact,
                "cache_dir": folder / "cache",
                "state_dir": folder / "state",
                "metrics_port": 0,
                "log_format": "text",
                "session_timeout_seconds": SESSION_TIMEOUT_SECONDS,
            }
            settings = load(**values | broker.settings | overrides)
            create_topics(settings)
            prepare(settings)
            with (
                start_one_worker(environment_of(settings), folder) as worker,
                contextlib.closing(Outputs(settings)) as outputs,
                contextlib.closing(open_producer(settings)) as producer,
            ):
                yield Service(settings, server, worker, outputs, producer)

    return run


@pytest.fixture
def _unclosed_sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the sockets go that kafka-python leaves unclosed when its connections are refused.

    They hang on its exceptions, and these on what it logs, which the test runner keeps.
    """
    monkeypatch.setattr(logging.getLogger("kafka"), "propagate", False)
    yield
    gc.collect()
