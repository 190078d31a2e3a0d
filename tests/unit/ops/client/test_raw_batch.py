import pytest
from kafka.record.default_records import DefaultRecordBatchBuilder

from alignstream.models.errors import RecordError
from alignstream.ops.client.raw_batch import unpack_batch

RECORDS = [
    (0, b"k", b"v" * 300, [("h", b"x"), ("h", b"")]),
    (1, None, b"", []),
    (4, b"k", None, [("naïve", None)]),
]


def batch(codec: int, *, transactional: bool = False) -> bytes:
    """Build a batch with kafka-python, which is what real producers send."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=codec,
        is_transactional=transactional,
        producer_id=7 if transactional else -1,
        producer_epoch=0 if transactional else -1,
        base_sequence=0 if transactional else -1,
        batch_size=100_000,
    )
    for offset, key, value, headers in RECORDS:
        builder.append(offset, 1_700_000_000_000 + offset, key, value, headers)
    return bytes(builder.build())


@pytest.mark.parametrize("codec", range(5))
def test_a_batch_of_every_codec_is_unpacked_as_it_was_built(codec: int) -> None:
    data = batch(codec)
    unpacked, length = unpack_batch(data + b"the next batch")
    assert length == len(data)
    assert (unpacked.base_offset, unpacked.last_offset, unpacked.is_readable) == (0, 4, True)
    assert unpacked.records is not None
    assert [(item.offset, item.key, item.value, list(item.headers)) for item in unpacked.records] == RECORDS


def test_a_header_name_that_is_not_utf8_is_mended_and_told() -> None:
    data = batch(0).replace("naïve".encode(), b"na\xff\xfeve")
    unpacked, _ = unpack_batch(data)
    assert unpacked.records is not None
    assert [item.is_readable for item in unpacked.records] == [True, True, False]
    assert unpacked.records[2].headers == (("na\ufffd\ufffdve", None),)


def test_what_cannot_be_unpacked_says_why() -> None:
    damaged = bytearray(batch(1))
    damaged[-20:] = bytes(20)
    unpacked, _ = unpack_batch(bytes(damaged))
    assert (unpacked.records, unpacked.is_readable) == (None, False)
    assert "CRC" in unpacked.reason
    assert "transaction" in unpack_batch(batch(0, transactional=True))[0].reason


def test_what_is_no_batch_is_refused() -> None:
    with pytest.raises(RecordError):
        unpack_batch(batch(0)[:-1])
    with pytest.raises(RecordError):
        unpack_batch(bytes(100))
