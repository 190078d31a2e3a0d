"""The cache of vectors: what was encoded is kept whatever happens, and memory is that of the result."""

import hashlib
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from alignstream.export.data import embedding_cache
from alignstream.export.data.embedding_cache import EmbeddingCache
from alignstream.models.arrays import Matrix
from alignstream.models.errors import CacheError

ENCODER = "e" * 64
DIM = 8


def vectors_of(texts: Sequence[str], dim: int = DIM) -> Matrix:
    """Unit vectors that follow from the texts alone."""
    X = np.empty((len(texts), dim), dtype=np.float32)
    for row, text in enumerate(texts):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        X[row] = np.random.default_rng(seed).standard_normal(dim)
    unit: Matrix = X / np.linalg.norm(X, axis=1, keepdims=True)
    return unit


class Encoder:
    """Counts its texts; after ``allowed`` of them the user presses Ctrl-C."""

    def __init__(self, allowed: int | None = None) -> None:
        self.texts: list[str] = []
        self.allowed = allowed

    def __call__(self, texts: Sequence[str]) -> Matrix:
        if self.allowed is not None and len(self.texts) + len(texts) > self.allowed:
            raise KeyboardInterrupt
        self.texts += texts
        return vectors_of(texts)


def refuse(texts: Sequence[str]) -> Matrix:
    raise AssertionError(f"{len(texts)} texts are encoded again")


def opened(folder: Path, encode: object) -> EmbeddingCache:
    return EmbeddingCache(folder, fingerprint=ENCODER, dim=DIM, encode=encode)  # type: ignore[arg-type]


def made(n: int, name: str = "text") -> list[str]:
    return [f"{name} {i}" for i in range(n)]


def stored_file(folder: Path) -> Path:
    (path,) = folder.rglob("*.npz")
    return path


def write_as_numpy(path: Path, texts: Sequence[str]) -> None:
    """Write a file as earlier versions did."""
    keys = [hashlib.sha256(text.encode()).digest() for text in texts]
    np.savez(
        path,
        keys=np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(texts), 32),
        vectors=vectors_of(texts),
    )


def test_an_interrupt_keeps_what_was_encoded(tmp_path: Path) -> None:
    texts = made(300)
    first = Encoder(allowed=200)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path, first).embed({"set": texts})
    assert len(first.texts) == 192
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["set.npz"]
    rest = Encoder()
    found = opened(tmp_path, rest).embed({"set": texts})["set"]
    assert rest.texts == texts[192:]
    assert found.tobytes() == vectors_of(texts).tobytes()


def test_any_error_of_the_encoder_keeps_what_was_encoded(tmp_path: Path) -> None:
    def broken(texts: Sequence[str]) -> Matrix:
        if "text 70" in texts:
            raise RuntimeError("out of memory")
        return vectors_of(texts)

    with pytest.raises(RuntimeError, match="out of memory"):
        opened(tmp_path, broken).embed({"set": made(100)})
    opened(tmp_path, refuse).embed({"set": made(64)})


def test_a_long_run_is_written_along_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_cache, "_SAVE_EVERY", 128)
    sizes = []

    def encode(texts: Sequence[str]) -> Matrix:
        paths = list(tmp_path.rglob("*.npz"))
        # A run that is killed here leaves this file.
        sizes.append(len(np.load(paths[0])["keys"]) if paths else 0)
        return vectors_of(texts)

    opened(tmp_path, encode).embed({"set": made(640)})
    assert sizes == [0, 0, 128, 128, 256, 256, 384, 384, 512, 512]


def test_a_large_set_is_written_seldom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_cache, "_SAVE_EVERY", 64)
    opened(tmp_path, vectors_of).embed({"set": made(6400)})
    n_times = 0
    original = EmbeddingCache._write

    def count(*arguments: object) -> None:
        nonlocal n_times
        n_times += 1
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(EmbeddingCache, "_write", count)
    opened(tmp_path, vectors_of).embed({"set": made(7680)})
    assert n_times == 2


def test_an_interrupt_while_a_file_is_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(tmp_path, vectors_of).embed({"set": made(10)})
    before = stored_file(tmp_path).read_bytes()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(embedding_cache, "_write_header", interrupt)
    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path, vectors_of).embed({"set": made(20)})
    assert stored_file(tmp_path).read_bytes() == before
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [stored_file(tmp_path)]


def test_an_interrupt_stays_one_where_nothing_can_be_written(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(KeyboardInterrupt):
        opened(blocked, Encoder(allowed=64)).embed({"set": made(128)})
    with pytest.raises(CacheError, match="ALIGNSTREAM_CACHE_DIR"):
        opened(blocked, Encoder()).embed({"set": made(128)})


def test_files_are_read_both_ways(tmp_path: Path) -> None:
    opened(tmp_path, vectors_of).embed({"set": made(3)})
    path = stored_file(tmp_path)
    with np.load(path, allow_pickle=False) as archive:
        assert sorted(archive.files) == ["keys", "vectors"]
        assert archive["keys"].shape == (3, 32)
        assert archive["keys"].dtype == np.uint8
        assert archive["vectors"].tobytes() == vectors_of(made(3)).tobytes()
    write_as_numpy(path, made(9000))
    # More than a block, in another order, and some of them twice.
    wanted = [*reversed(made(9000)), *made(5000)]
    assert opened(tmp_path, refuse).embed({"set": wanted})["set"].tobytes() == vectors_of(wanted).tobytes()


def test_texts_that_are_not_asked_for_stay_in_the_file(tmp_path: Path) -> None:
    cache = opened(tmp_path, vectors_of)
    cache.embed({"set": made(5, "old")})
    cache.embed({"set": ["new", "old 3", "new"]})
    opened(tmp_path, refuse).embed({"set": ["new", *made(5, "old")]})
    assert len(np.load(stored_file(tmp_path))["keys"]) == 6


def test_what_another_process_wrote_in_the_meantime_stays(tmp_path: Path) -> None:
    def encode(texts: Sequence[str]) -> Matrix:
        opened(tmp_path, vectors_of).embed({"set": ["theirs"]})
        return vectors_of(texts)

    opened(tmp_path, encode).embed({"set": ["mine"]})
    opened(tmp_path, refuse).embed({"set": ["mine", "theirs"]})


def test_an_encoder_that_gives_other_vectors_than_it_should_is_found_out(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"2 texts became vectors of shape \(1, 8\)"):
        opened(tmp_path, lambda texts: vectors_of(texts)[:1]).embed({"set": made(2)})


def test_memory_is_that_of_the_result(tmp_path: Path) -> None:
    n, dim = 12_000, 96
    texts = made(n)
    cache = EmbeddingCache(tmp_path, fingerprint=ENCODER, dim=dim, encode=lambda step: vectors_of(step, dim))

    def peak(wanted: Sequence[str]) -> int:
        tracemalloc.start()
        cache.embed({"set": wanted})
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    # Beside the result: keys and rows of the texts, and blocks. A second copy of the vectors would be 384 bytes a text.
    blocks = 3 * embedding_cache._BLOCK_ROWS * dim * 4
    allowed = n * dim * 4 + 250 * n + blocks
    # Encoding also holds what is written, by its keys.
    assert peak(texts) < allowed + 250 * n
    assert peak(texts) < allowed
    assert peak(texts[::-1]) < allowed
    assert peak([*texts[: n // 2], *texts[: n // 2]]) < allowed


def test_a_text_is_encoded_once_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    encode, texts = Encoder(), ["de:a", "de:b", "de:a"]
    cache = opened(tmp_path, encode)
    first = cache.embed({"set": texts})["set"]
    assert len(encode.texts) == 2
    again = opened(tmp_path, encode)
    assert again.embed({"set": texts})["set"].tobytes() == first.tobytes()
    assert first.tobytes() == vectors_of(texts).tobytes()
    assert len(encode.texts) == 2
    grown = again.embed({"set": ["de:c", *texts]})["set"]
    assert len(encode.texts) == 3
    assert grown[1:].tobytes() == first.tobytes()


def test_another_encoder_shares_nothing(tmp_path: Path) -> None:
    encode = Encoder()
    opened(tmp_path, encode).embed({"set": ["de:a"]})
    other = EmbeddingCache(tmp_path, fingerprint="f" * 64, dim=DIM, encode=encode)
    other.embed({"set": ["de:a"]})
    assert len(encode.texts) == 2


def test_a_damaged_file_of_the_cache_is_encoded_again(tmp_path: Path) -> None:
    encode = Encoder()
    cache = opened(tmp_path, encode)
    expected = cache.embed({"set": ["de:a", "de:b"]})["set"]
    path = stored_file(tmp_path)
    whole = path.read_bytes()
    last_number = whole.rindex(expected[1].tobytes()) + DIM * 4 - 4
    flipped = whole[:last_number] + bytes([whole[last_number] ^ 1]) + whole[last_number + 1 :]
    damaged = [whole[: len(whole) // 2], b"", b"nothing of ours", flipped]
    for n_times, blob in enumerate(damaged, start=1):
        path.write_bytes(blob)
        assert cache.embed({"set": ["de:a", "de:b"]})["set"].tobytes() == expected.tobytes()
        assert len(encode.texts) == 2 + 2 * n_times


def test_any_tag_is_a_safe_file_name_and_no_text_is_stored(tmp_path: Path) -> None:
    names = ["../../evil", "zh-Hant", "a/b", "", ".hidden", "ñ", "x" * 300]
    opened(tmp_path, Encoder()).embed({name: [f"de:secret {name}"] for name in names})
    stored = list(tmp_path.rglob("*.npz"))
    assert len(stored) == len(names)
    assert {path.parent for path in stored} == {tmp_path / "embeddings" / ENCODER}
    assert not any(b"secret" in path.read_bytes() for path in stored)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path not in stored] == []


def test_a_cache_that_cannot_be_written_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    cache = opened(blocked, Encoder())
    with pytest.raises(CacheError, match="ALIGNSTREAM_CACHE_DIR"):
        cache.embed({"set": ["de:a"]})
