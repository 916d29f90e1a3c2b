"""The Python door: paths, protobufs and graphs in, the same kind out, nothing modified; options checked by value."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime
import pytest
from doors import (
    FLAGS,
    MODELS,
    PLAIN,
    Command,
    convolutional,
    dense,
    foreign,
    half,
    perceptron,
    prune_plain,
    run_file,
    weights,
)
from onnx import ModelProto, TensorProto, helper

import onnxprune
from onnxprune import delivery, pipeline
from onnxprune.graph import runtime
from onnxprune.options import Options
from onnxprune.parsing import parse_input_shape, parse_round_to

LENET = MODELS / "lenet-300-100.onnx"


def same(first: ModelProto, second: ModelProto) -> bool:
    return first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_what_the_package_offers() -> None:
    assert set(onnxprune.__all__) == {
        "DataError",
        "ModelError",
        "OnnxPruneError",
        "OutputError",
        "Plan",
        "RefusedError",
        "Result",
        "UsageError",
        "ValidationError",
        "inspect",
        "prune",
    }
    errors = [value for value in vars(onnxprune).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert {error.exit_code for error in errors} == {1, 2, 3}  # type: ignore[attr-defined]


def test_path_and_proto_give_what_the_command_gives(command: Command) -> None:
    out = command.folder / "out.onnx"
    command.done(LENET, out, *FLAGS, "--ratio", "0.6")
    before = LENET.read_bytes()
    proto = onnx.load(LENET)
    results = [
        prune_plain(LENET, ratio=0.6),
        prune_plain(str(LENET), ratio=0.6),
        prune_plain(proto, ratio=0.6),
    ]
    assert LENET.read_bytes() == before and same(proto, onnx.load(LENET))
    for result in results:
        assert isinstance(result.model, ModelProto) and same(result.model, onnx.load(out))
        assert isinstance(result.plan, onnxprune.Plan)
        report = result.report
        assert report["validation"]["twin"]["passed"] and abs(report["achieved"]["params"] - 0.6) < 0.01
        assert report["output"]["path"] is None and report["output"]["bytes"] == result.model.ByteSize()
        assert len(report["output"]["sha256"]) == len(report["input"]["sha256"]) == 64
        assert report["input"]["params"] == 266_610
    assert results[0].report["input"]["path"] == str(LENET) and results[2].report["input"]["path"] is None
    assert results[0].report["input"]["bytes"] == len(before)


def test_a_protobuf_is_left_as_it_is() -> None:
    for make in (perceptron, convolutional, dense):
        proto = make()
        before = proto.SerializeToString(deterministic=True)
        result = prune_plain(proto, ratio=0.5, method="coreset-distinct", best_effort=True)
        assert proto.SerializeToString(deterministic=True) == before
        assert run_file(result.model.SerializeToString(), np.random.default_rng(0))[0].shape[1] in (4, 10)
        onnx.checker.check_model(result.model, full_check=True)


def test_a_graph_of_graphsurgeon() -> None:
    graph = gs.import_onnx(onnx.load(LENET))
    graph.name = "mine"
    before = gs.export_onnx(graph).SerializeToString(deterministic=True)
    result = prune_plain(graph, ratio=0.6)
    assert isinstance(result.model, gs.Graph) and result.model is not graph
    assert gs.export_onnx(graph).SerializeToString(deterministic=True) == before
    assert result.model.name == "mine" and result.model.opset == graph.opset
    assert [node.op for node in result.model.nodes] == [node.op for node in graph.nodes]
    assert [tensor.name for tensor in result.model.outputs] == [tensor.name for tensor in graph.outputs]
    exported = gs.export_onnx(result.model)
    exported.ir_version = 10
    expected = prune_plain(LENET, ratio=0.6).model
    rng = np.random.default_rng
    np.testing.assert_array_equal(
        run_file(exported.SerializeToString(), rng(0))[0], run_file(expected.SerializeToString(), rng(0))[0]
    )
    assert sum(value.size for value in weights(exported).values()) == result.report["output"]["params"]
    assert onnxprune.inspect(graph)["input"]["params"] == 266_610


def test_a_graph_that_was_edited(tmp_path: Path) -> None:
    """Names that are not unique, or missing, as hands leave them, and lazily loaded constants."""
    graph = gs.import_onnx(convolutional())
    for node in graph.nodes:
        node.name = ""
    result = prune_plain(graph, ratio=0.4)
    assert result.report["validation"]["twin"]["passed"]
    assert all(not node.name for node in graph.nodes)
    assert len({group["name"] for group in result.report["groups"]}) == len(result.report["groups"])


def test_a_plan_is_replayed() -> None:
    first = prune_plain(LENET, ratio=0.5, method="coreset-sampled")
    again = prune_plain(LENET, replay=first.plan)
    assert same(first.model, again.model) and again.plan == first.plan
    assert onnxprune.Plan.from_json(first.plan.to_json()) == first.plan
    with pytest.raises(onnxprune.RefusedError, match="make the plan anew"):
        prune_plain(dense(), replay=first.plan)


def test_a_graph_with_a_plugin() -> None:
    graph = gs.import_onnx(foreign(first=24, second=20))
    result = prune_plain(graph, ratio=0.4)
    assert [node.op for node in result.model.nodes] == [node.op for node in graph.nodes]
    assert {entry.domain for entry in result.model.import_domains} == {"", "acme"}
    assert result.report["validation"]["twin"]["passed"] and result.report["validation"]["unproved"]


def test_a_graph_that_is_none() -> None:
    untyped = gs.import_onnx(dense())
    untyped.inputs[0].dtype = None
    for graph, word in ((untyped, "type"), (gs.Graph(), "without nodes")):
        with pytest.raises(onnxprune.ModelError, match=word):
            prune_plain(graph, ratio=0.5)


@pytest.mark.parametrize("model", [None, 3, b"bytes", np.ones(3), onnx.GraphProto()])
def test_what_is_no_network(model: Any) -> None:
    for door in (lambda: onnxprune.prune(model, ratio=0.5), lambda: onnxprune.inspect(model)):
        with pytest.raises(onnxprune.UsageError, match=r"path, an onnx.ModelProto or an onnx_graphsurgeon.Graph, not"):
            door()


@pytest.mark.parametrize(("options", "word"), [
    ({}, "ratio="),
    ({"ratio": 0.5, "replay": onnxprune.Plan("", ())}, "ratio="),
    ({"ratio": 0}, "ratio"),
    ({"ratio": "0.5"}, "ratio"),
    ({"ratio": True}, "ratio"),
    ({"ratio": float("nan")}, "ratio"),
    ({"ratio": 0.5, "method": "magic"}, "coreset-distinct"),
    ({"ratio": 0.5, "measure": None}, "macs"),
    ({"ratio": 0.5, "allocation": 3}, "global"),
    ({"ratio": 0.5, "refit": True}, "auto"),
    ({"ratio": 0.5, "round_to": 0}, "round-to"),
    ({"ratio": 0.5, "round_to": 8.0}, "round-to"),
    ({"ratio": 0.5, "round_to": None}, "round-to"),
    ({"ratio": 0.5, "round_to": True}, "round-to"),
    ({"ratio": 0.5, "min_keep": "1"}, "min-keep"),
    ({"ratio": 0.5, "min_keep": -1}, "min-keep"),
    ({"ratio": 0.5, "seed": 0.5}, "seed"),
    ({"ratio": 0.5, "seed": -1}, "seed"),
    ({"ratio": 0.5, "include": "("}, "regular expression"),
    ({"ratio": 0.5, "include": [3]}, "include"),
    ({"ratio": 0.5, "input_shapes": {"input": (0, 1, 28, 28)}}, "input-shape"),
    ({"ratio": 0.5, "input_shapes": {"input": ("n", 1, 28, 28)}}, "input-shape"),
    ({"ratio": 0.5, "providers": "toaster"}, "toaster"),
], ids=str)  # fmt: skip
def test_values_that_are_wrong_by_themselves(options: dict[str, Any], word: str) -> None:
    with pytest.raises(onnxprune.UsageError) as error:
        onnxprune.prune(LENET, **options)
    assert word in str(error.value) and "\n" not in str(error.value)


def test_values_of_other_kinds_are_taken() -> None:
    result = prune_plain(
        LENET,
        ratio=np.float32(0.3),  # type: ignore[arg-type]
        include="/fc1/Gemm",
        exclude=["fc3.weight"],
        round_to=np.int64(4),
        min_keep=2,
        seed=np.int64(3),
        input_shapes={"input": [np.int64(2), 1, 28, 28]},
        providers="cpu",
    )
    assert [group["kept"] % 4 for group in result.report["groups"]] == [0]
    assert result.report["request"]["seed"] == 3
    assert onnxprune.Plan.from_json(result.plan.to_json()).request == result.plan.request


def test_inspection() -> None:
    facts = onnxprune.inspect(LENET)
    assert [group["name"] for group in facts["groups"]] == ["/fc1/Gemm", "/fc2/Gemm"]
    assert {item["purpose"] for item in facts["pinned"]} == {"graph output", "graph input"}
    assert facts["reachable"]["channels"] == pytest.approx(398 / 400)
    half = onnxprune.inspect(LENET, min_keep=0.5)
    assert half["reachable"]["channels"] == 0.5
    one = onnxprune.inspect(LENET, exclude="/fc3/Gemm", input_shapes={"input": (4, 1, 28, 28)})
    assert [group["name"] for group in one["groups"]] == ["/fc1/Gemm"]
    assert one["input"]["macs"] == 4 * facts["input"]["macs"]
    none = onnxprune.inspect(LENET, exclude="/fc2/Gemm")
    assert not none["groups"] and "excluded by the options" in {item["purpose"] for item in none["pinned"]}
    assert none["reachable"]["params"] == 0.0


def test_external_data_stays_where_it_is(command: Command) -> None:
    path = command.put(dense(), external=True)
    before = command.tree()
    result = prune_plain(path, ratio=0.4)
    assert command.tree() == before
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in result.model.graph.initializer)
    assert same(result.model, prune_plain(dense(), ratio=0.4).model)


def test_what_does_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(delivery, "EMBEDDED_LIMIT", 1000)
    with pytest.raises(onnxprune.RefusedError, match="from file to file"):
        prune_plain(LENET, ratio=0.5)
    outcome = pipeline.prune_file(LENET, tmp_path / "out.onnx", Options(ratio=0.5, **PLAIN))
    assert outcome.report["validation"]["twin"]["passed"]


def test_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.provider_works(runtime.CPU) and not runtime.provider_works("DmlExecutionProvider")
    assert runtime.choose_providers(("CPU",)) == (runtime.CPU,)
    for works, expected in ((True, (runtime.CUDA, runtime.CPU)), (False, (runtime.CPU,))):
        monkeypatch.setattr(runtime, "provider_works", lambda name, works=works: works or name == runtime.CPU)
        assert runtime.choose_providers() == expected
    monkeypatch.setattr(runtime.onnxruntime, "get_available_providers", lambda: [runtime.CUDA, runtime.CPU])
    with pytest.raises(onnxprune.RefusedError, match=r"choose from CPUExecutionProvider$"):
        runtime.choose_providers(("cuda",))


def test_a_provider_that_only_claims_to_be_there(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """CUDA's libraries are missing: found out in silence, by a session."""
    if onnxruntime.get_device() != "GPU" and runtime.CUDA not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA")
    runtime.provider_works.cache_clear()
    monkeypatch.setattr(runtime, "_loadable", lambda *_: False)
    assert not runtime.provider_works(runtime.CUDA)
    runtime.provider_works.cache_clear()
    monkeypatch.undo()
    assert isinstance(runtime.provider_works(runtime.CUDA), bool)
    assert runtime.choose_providers() in ((runtime.CPU,), (runtime.CUDA, runtime.CPU))
    captured = capfd.readouterr()
    assert captured.err == "" and captured.out == ""


def test_two_installations_are_noticed(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    monkeypatch.setattr(runtime, "_installed", lambda name: True)
    assert "uninstall onnxruntime" in runtime.installation_warning()
    ran = command(LENET, command.folder / "out.onnx", *FLAGS, "--ratio", "0.5")
    assert ran.code == 0 and "warning" in ran.err
    assert command(LENET, command.folder / "out.onnx", *FLAGS, "--ratio", "0.5", "-q").err == ""
    monkeypatch.setattr(runtime, "_installed", lambda name: name == "onnxruntime")
    assert runtime.installation_warning() == ""


@pytest.mark.parametrize("text", ["x:1,3,8,8", "x:1x3x8x8", "x:[1,3,8,8]", "x: 1, 3, 8, 8", "x:[1, 3, 8, 8]"])
def test_shapes_are_read_as_other_tools_write_them(text: str) -> None:
    assert parse_input_shape(text) == ("x", (1, 3, 8, 8))


def test_small_parsers() -> None:
    assert parse_input_shape("a:b:2") == ("a:b", (2,))
    assert [parse_round_to(text) for text in ("off", "auto", "16", "-1", "x")] == ["off", "auto", 16, "-1", "x"]


def test_a_file_of_half_precision(command: Command) -> None:
    """Weights of float16 are counted, rounded by 8, scaled and proved with their own tolerance."""
    proto = half(dense())
    path = command.put(proto)
    for method in ("coreset", "coreset-distinct"):
        result = prune_plain(path, ratio=0.4, method=method)
        assert result.report["validation"]["twin"]["tolerance"] > 1e-4
        assert {tensor.data_type for tensor in result.model.graph.initializer} == {TensorProto.FLOAT16}
    assert abs(result.report["achieved"]["params"] - 0.4) < 0.01


def test_eight_bits_are_rounded_by_32(monkeypatch: pytest.MonkeyPatch) -> None:
    proto = dense(sizes=(20, 100, 70, 10))
    proto.graph.initializer.append(helper.make_tensor("unused", TensorProto.INT8, [1], [1]))
    proto.graph.node.append(helper.make_node("Identity", ["unused"], ["spare"]))
    report = prune_plain(proto, ratio=0.3, round_to="auto").report
    assert [group["kept"] % 32 == 0 or group["kept"] == group["channels"] for group in report["groups"]] == [True, True]
    assert report["request"]["round_to"] == "auto"
