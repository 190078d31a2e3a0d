"""The second act of the demonstration without a service: what it makes of records, and how it fails."""

from collections.abc import Iterable
from typing import Any, Self

import msgspec
import numpy as np
import pytest

from alignstream.models.errors import DemoFailed
from alignstream.ops.admin.gate_texts import LanguageName, ParallelText
from alignstream.ops.client.producer import KeyValueHeaders, ProduceReport
from alignstream.ops.client.record import Record
from alignstream.ops.demo import second_act
from alignstream.ops.demo.demo_documents import ClinicTexts, StreamMessage
from alignstream.streams.settings import Settings
from alignstream.streams.wire import codec, epoch_log, observations
from alignstream.streams.wire.epoch_log import EpochV1, EpochVersion, Refusal, StateV1, Summary
from alignstream.streams.wire.observations import ObservationsV1, ObservedText, Origin
from alignstream.streams.wire.records import DocumentV1, VectorAlignedV1
from alignstream.streams.wire.topics import EPOCHS, OBSERVATIONS, VECTORS

ENCODER = "f" * 64
SHA256 = "0" * 64
MEANINGS = 64
CLINIC = ClinicTexts(
    about="",
    newcomer="lg",
    languages={"lg": LanguageName("Luganda", "Latin")},
    texts=(ParallelText("a", {"lg": "x"}),),
)
MESSAGES = [
    StreamMessage("everyday" if number < 32 else "clinic", str(number), language, f"{number}")
    for number in range(MEANINGS)
    for language in ("en", "lg")
]


class Service:
    """Answers each document with a vector, and opens an epoch of the tenant after each batch, if it learns."""

    def __init__(self, *, learns: bool, refuses: bool = False) -> None:
        self.learns = learns
        self.refuses = refuses
        self.records: list[Record] = []
        self.epoch = 0
        self.n_observed = 0

    def produce(self, _: Settings, records: Iterable[KeyValueHeaders]) -> ProduceReport:
        count = 0
        for _key, value, _headers in records:
            self.answer(msgspec.json.decode(value or b"", type=DocumentV1))
            count += 1
        return ProduceReport(count, (), 0.0)

    def answer(self, document: DocumentV1) -> None:
        y = np.eye(MEANINGS, dtype=np.float32)[int(document.text)]
        is_followed = document.align is None
        record = VectorAlignedV1(
            id=document.id or "", tenant=document.tenant, vector=codec.vector_field(y, "base64-f32le"),
            encoding="base64-f32le", dim=MEANINGS, encoder=ENCODER, adapter="default", adapter_version="1",
            space="s", tokens=3, tokens_dropped=0, truncated=False, epoch=self.epoch if is_followed else 0,
            query_vector=codec.float16_field(y) if is_followed and self.epoch else msgspec.UNSET,
        )  # fmt: skip
        self.put(VECTORS, None, msgspec.json.encode(record))
        if is_followed:
            self.observe(document.tenant, y)

    def observe(self, tenant: str, y: np.ndarray[Any, Any]) -> None:
        text = ObservedText(
            origin=Origin("documents.v1", 0, self.n_observed),
            tenant=tenant,
            vector=codec.float16_field(y),
        )
        seen = ObservationsV1(encoder=ENCODER, dim=MEANINGS, texts=(text,))
        self.put(OBSERVATIONS, None, observations.encode(seen), offset=self.n_observed)
        self.n_observed += 1
        if self.n_observed % second_act.CHUNK_TEXTS == 0:
            self.decide(tenant)

    def decide(self, tenant: str) -> None:
        if self.refuses:
            state = StateV1(
                term=1, encoder=ENCODER, tenant=tenant, dim=MEANINGS, position=0, sections={},
                summary=Summary(refusal=Refusal(1, "queries would find nothing")),
            )  # fmt: skip
            self.put(EPOCHS, epoch_log.state_key(ENCODER, tenant), epoch_log.encode(state))
        elif self.learns:
            self.epoch += 1
            version = EpochVersion(
                number=self.epoch, reason="doubling", position=self.n_observed, sha256=SHA256, size_bytes=1, parts=[]
            )  # fmt: skip
            for name in (tenant, "another"):
                manifest = EpochV1(term=1, encoder=ENCODER, tenant=name, current=version)
                self.put(EPOCHS, epoch_log.epoch_key(ENCODER, name), epoch_log.encode(manifest))

    def put(self, topic: str, key: bytes | None, value: bytes, offset: int = 0) -> None:
        self.records.append(Record(topic, 0, offset, 0, key, value, ()))

    def poll(self, _: float) -> list[Record]:
        found, self.records = self.records, []
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def act(monkeypatch: pytest.MonkeyPatch, service: Service, *, follow: str = "epochs") -> second_act.SecondAct:
    monkeypatch.setattr(second_act, "Reader", lambda *_: service)
    monkeypatch.setattr(second_act, "produce_documents", service.produce)
    monkeypatch.setattr(second_act, "PATIENCE_SECONDS", 0.05)
    return second_act.SecondAct(Settings(follow=follow), MESSAGES, CLINIC)


def test_what_comes_is_told_by_domain_and_epoch_with_what_each_epoch_had_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    played = act(monkeypatch, Service(learns=True))
    shown: list[int] = []
    played.play(lambda: shown.append(len(played.queries)))
    rows = played.rows()
    assert [(row["domain"], row["epoch"], row["n_learned"]) for row in rows] == [
        ("everyday", 0, None), ("everyday", 1, 32), ("clinic", 2, 64), ("clinic", 3, 96)
    ]  # fmt: skip
    assert sum(row["n_queries"] for row in rows) == len(MESSAGES)
    assert rows[-1]["all"]["r_precision"]["following"] == 1.0
    assert played.epochs_served() == [(32, "doubling"), (64, "doubling"), (96, "doubling")]
    assert played.n_moved == 0
    assert shown[-1] == len(MESSAGES)


def test_a_stored_vector_that_moved_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(learns=True)
    played = act(monkeypatch, service)
    answer = service.answer

    def moved(document: DocumentV1) -> None:
        is_moved = document.align is None and document.text == "5"
        answer(msgspec.structs.replace(document, text="6") if is_moved else document)

    monkeypatch.setattr(service, "answer", moved)
    played.play(lambda: None)
    assert played.n_moved == 2


def test_without_a_learner_it_fails_and_says_what_to_look_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DemoFailed, match=r"no epoch opened .* is a learner running\?"):
        act(monkeypatch, Service(learns=False)).play(lambda: None)


def test_where_every_epoch_is_refused_it_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DemoFailed, match="epoch 1 was refused: queries would find nothing"):
        act(monkeypatch, Service(learns=True, refuses=True)).play(lambda: None)


def test_where_nothing_follows_it_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(learns=True)
    with pytest.raises(DemoFailed, match="ALIGNSTREAM_FOLLOW is off"):
        act(monkeypatch, service, follow="off").play(lambda: None)
    assert service.records == []


def test_where_results_stay_away_it_says_how_many_came(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(learns=True)
    monkeypatch.setattr(service, "answer", lambda _: None)
    with pytest.raises(DemoFailed, match="of 128 texts 0 were stored and 0 streamed"):
        act(monkeypatch, service).play(lambda: None)
