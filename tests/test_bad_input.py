"""Bad input, each with its one line on stderr: nothing written, nothing lost, no traceback."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from doors import DATA, FLAGS, Command, convolutional, foreign, perceptron, run_file, weights
from net import Net
from onnx import ModelProto, numpy_helper

from onnxprune.graph import runtime, save

HALF = ("--ratio", "0.5", *FLAGS)


def rejects(command: Command, source: Path, *words: str) -> None:
    """The input is refused for writing, for a dry run and for inspection."""
    out = command.folder / "out.onnx"
    command.refused(source, out, *HALF, words=words)
    command.refused(source, "--dry-run", *HALF, words=words)
    command.refused("inspect", source, words=words)
    out.write_text("precious")
    command.refused(source, out, *HALF, words=words)
    out.unlink()


# --- the file itself


def test_no_file(command: Command) -> None:
    (command.folder / "folder.onnx").mkdir()
    os.mkfifo(command.folder / "pipe.onnx")
    rejects(command, command.folder / "none.onnx", "none.onnx", "does not exist", "check the path")
    rejects(command, command.folder / "folder.onnx", "is a folder", "name the .onnx file")
    (command.folder / "pipe.onnx").unlink()


def test_no_regular_file(command: Command) -> None:
    for name in ("/dev/zero", "/dev/null"):
        command.refused(name, command.folder / "out.onnx", *HALF, words=["not a regular file", "save"])


@pytest.mark.parametrize(("data", "words"), [
    (b"", ["empty", "download or export"]),
    (b"a text\n", ["text", "convert"]),
    (b"PK\x03\x04" + bytes(50), ["zip", "torch.onnx.export"]),
    (bytes(range(256)), ["no ONNX graph", "download or export"]),
])  # fmt: skip
def test_no_network(command: Command, data: bytes, words: list[str]) -> None:
    path = command.folder / "in.onnx"
    path.write_bytes(data)
    rejects(command, path, *words)


@pytest.mark.parametrize("external", [False, True])
def test_every_truncation(command: Command, external: bool) -> None:
    proto = perceptron(hidden=5)
    # Metadata come last: a file without its last lines of them is a whole file.
    proto.ClearField("metadata_props")
    path = command.put(proto, external=external)
    whole = path.read_bytes()
    lengths = range(len(whole)) if external else [*range(0, len(whole), 7), len(whole) - 1]
    for length in lengths:
        path.write_bytes(whole[:length])
        command.refused(path, command.folder / "out.onnx", *HALF, words=["in.onnx"])
    path.write_bytes(whole)
    command.done(path, command.folder / "out.onnx", *HALF, "--best-effort")


def test_a_network_cut_inside_its_weights(command: Command) -> None:
    path = command.model("lenet-300-100.onnx")
    whole = path.read_bytes()
    for length in (1000, 100_000, len(whole) // 2, len(whole) - 5000, len(whole) - 1):
        path.write_bytes(whole[:length])
        rejects(command, path, "in", "export")


def broken(proto: ModelProto, edit: Callable[[onnx.GraphProto], object]) -> ModelProto:
    edit(proto.graph)
    return proto


@pytest.mark.parametrize(("edit", "words"), [
    (lambda graph: graph.ClearField("output"), ["without outputs", "export"]),
    (lambda graph: graph.ClearField("node"), ["without nodes", "export"]),
    (lambda graph: graph.output.pop(), ["without outputs", "export"]),
    (lambda graph: setattr(graph.output[0], "name", "nowhere"), ["not a valid ONNX network", "nowhere"]),
    (lambda graph: graph.node[0].input.append("nowhere"), ["not a valid ONNX network"]),
    (lambda graph: graph.node[1].output.append(graph.node[0].output[0]), ["not a valid ONNX network"]),
    (lambda graph: graph.initializer[0].dims.append(3), ["damaged"]),
    (lambda graph: graph.node[0].attribute.add(name="odd", i=1, type=2), ["not a valid ONNX network", "odd"]),
])  # fmt: skip
def test_a_broken_graph(command: Command, edit: Callable[[onnx.GraphProto], object], words: list[str]) -> None:
    rejects(command, command.put(broken(perceptron(), edit)), *words)


def test_weights_that_contradict_each_other(command: Command) -> None:
    proto = perceptron()
    proto.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.ones((7, 12), np.float32), "w2"))
    path = command.put(proto)
    command.refused(path, command.folder / "out.onnx", *HALF, words=["nothing to prune", "shape", "onnxprune inspect"])


def test_an_operator_that_does_not_fit_its_input(command: Command) -> None:
    """Rules and shape inference trust what onnxruntime would refuse; its reason is then given."""
    proto = convolutional()
    groups = [item for node in proto.graph.node for item in node.attribute if item.name == "group"]
    groups[-1].i = 64
    path = command.put(proto)
    command.refused(path, command.folder / "out.onnx", *HALF, words=["onnxruntime cannot", "repair or export"])
    command.refused("inspect", path, words=["onnxruntime cannot"])
    net = Net(ir=3)
    proto = net.done(net.gemm(net.add("Relu", net.gemm(net.input("n", 8), 12, 8)), 4, 12))
    declared = next(value for value in proto.graph.input if value.name == "w0")
    declared.type.tensor_type.shape.dim[0].dim_value = 9
    path = command.put(proto)
    command.refused(path, command.folder / "out.onnx", *HALF, words=["onnxruntime cannot", "w0"])


# --- external data


@pytest.mark.parametrize(("location", "words"), [
    ("gone.data", ["gone.data", "missing"]),
    ("/etc/passwd", ["/etc/passwd", "inside the model's folder"]),
    ("../in.onnx.data", ["inside the model's folder"]),
    ("sub/../../in.onnx.data", ["inside the model's folder"]),
])  # fmt: skip
def test_external_data_elsewhere(command: Command, location: str, words: list[str]) -> None:
    path = command.put(perceptron(), external=True)
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    path.write_bytes(proto.SerializeToString())
    rejects(command, path, *words)


def test_external_data_cut_short(command: Command) -> None:
    path = command.put(perceptron(), external=True)
    data = command.folder / "in.onnx.data"
    data.write_bytes(data.read_bytes()[:-4])
    rejects(command, path, "in.onnx.data", "truncated")
    data.unlink()
    rejects(command, path, "in.onnx.data", "missing")


# --- the output


def test_output_is_the_input(command: Command) -> None:
    path = command.put(perceptron(), external=True)
    (command.folder / "soft.onnx").symlink_to(path)
    os.link(path, command.folder / "hard.onnx")
    for name in ("in.onnx", "soft.onnx", "hard.onnx", "in.onnx.data", "sub/../in.onnx"):
        (command.folder / "sub").mkdir(exist_ok=True)
        command.refused(path, command.folder / name, *HALF, words=["read as an input", "choose another"])


def test_output_in_no_folder(command: Command) -> None:
    path = command.put(perceptron())
    (command.folder / "taken.onnx").mkdir()
    for name, word in (
        (command.folder / "none" / "out.onnx", "does not exist"),
        (path / "out.onnx", "is not a folder"),
        (command.folder / "taken.onnx", "name a file"),
        ("/proc/out.onnx", "choose another"),
        ("/dev/full", "not a regular file"),
        ("", "name a file"),
        (command.folder / ("n" * 300), "too long"),
    ):
        command.refused(path, name, *HALF, words=["cannot write", word])


def test_output_in_a_folder_that_forbids_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = command.put(perceptron())
    monkeypatch.setattr(save.tempfile, "mkdtemp", refuse)
    command.refused(path, command.folder / "out.onnx", *HALF, words=["Permission denied", "choose another"])


@pytest.mark.parametrize("flags", [(), ("--save-as-external-data",), ("--plan", "plan.json", "--report", "r.json")])
def test_a_full_disk(command: Command, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = command.put(perceptron(hidden=40))
    (command.folder / "out.onnx").write_text("precious")
    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.chdir(command.folder)
    command.refused(path, "out.onnx", *HALF, *flags, words=["No space left", "MB to spare"])


def test_a_real_limit_on_the_size_of_files(command: Command) -> None:
    path = command.model("lenet-300-100.onnx")
    out = command.folder / "out.onnx"
    out.write_text("precious")
    before = command.tree()
    ran = subprocess.run(
        [sys.executable, "-m", "onnxprune", path, out, *HALF],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000)),
    )
    assert ran.returncode == 1 and ran.stdout == "" and ran.stderr.count("\n") == 1
    assert "File too large" in ran.stderr and "MB to spare" in ran.stderr
    assert command.tree() == before


def test_side_files_that_cannot_be_written(command: Command) -> None:
    path = command.put(perceptron(), external=True)
    folder = command.folder
    out = folder / "out.onnx"
    (folder / "taken.json").mkdir()
    (folder / "in.json").write_text(path.name)
    for flags, code, words in (
        (("--report", folder / "r.txt"), 2, [".json"]),
        (("--report", folder / "taken.json"), 1, ["name a file"]),
        (("--report", folder / "none" / "r.json"), 1, ["does not exist"]),
        (("--plan", path), 1, ["read as an input"]),
        (("--plan", folder / "in.onnx.data"), 1, ["read as an input"]),
        (("--plan", out), 1, ["it is the output"]),
        (("--plan", folder / "out.onnx.data"), 1, ["it is the output's data"]),
        (("--plan", folder / "a.json", "--report", folder / "a.json"), 1, ["it is the file of --plan"]),
    ):
        command.refused(path, out, *HALF, *flags, code=code, words=words)
    command.refused("inspect", path, "--report", folder / "none" / "r.json", words=["does not exist"])
    command.refused("inspect", path, "--report", path, code=2, words=[".json"])


def test_a_report_that_fails_takes_the_network_with_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    path = command.put(perceptron())
    settle = save._settle

    def full(file: "object") -> None:
        if ".json" in str(file.name):  # type: ignore[attr-defined]
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        settle(file)  # type: ignore[arg-type]

    monkeypatch.setattr(save, "_settle", full)
    report = command.folder / "r.json"
    command.refused(path, command.folder / "out.onnx", *HALF, "--report", report, words=["r.json", "No space left"])


# --- flags


@pytest.mark.parametrize("ratio", ["0", "1", "-0.1", "1.5", "nan", "inf", "-inf", "abc", "", "0,5", "50%"])
def test_ratio_out_of_range(command: Command, ratio: str) -> None:
    path = command.put(perceptron())
    command.refused(path, command.folder / "out.onnx", "--ratio", ratio, code=2, words=["--ratio"])


@pytest.mark.parametrize("flags", [
    ("--method", "magic"),
    ("--measure", "flops"),
    ("--allocation", "fair"),
    ("--refit", "yes"),
    ("--round-to", "0"),
    ("--round-to", "-8"),
    ("--round-to", "some"),
    ("--round-to", "9" * 5000),
    ("--min-keep", "0"),
    ("--min-keep", "nan"),
    ("--min-keep", "few"),
    ("--seed", "-1"),
    ("--seed", "one"),
    ("--max-drop", "100"),
    ("--max-drop", "-1"),
    ("--max-drop", "1"),
    ("--include", "("),
    ("--exclude", "*"),
    ("--providers", "toaster"),
    ("--input-shape", "x0"),
    ("--input-shape", ":1,2"),
    ("--input-shape", "x0:"),
    ("--input-shape", "x0:1,,8"),
    ("--input-shape", "x0:0,8"),
    ("--input-shape", "x0:-1,8"),
    ("--input-shape", "x0:99999999999,8"),
    ("--input-shape", "x0:" + "9" * 5000),
    ("--no-such-flag",),
    ("--meas", "macs"),
    ("--replay", "plan.json"),
    ("third.onnx",),
], ids=lambda flags: " ".join(flags)[:30])  # fmt: skip
def test_wrong_flags(command: Command, flags: tuple[str, ...]) -> None:
    path = command.put(perceptron())
    line = command.refused(path, command.folder / "out.onnx", *HALF, *flags, code=2)
    assert flags[0].lstrip("-") in line or flags[1] in line


def test_what_is_missing_on_the_command_line(command: Command) -> None:
    path = command.put(perceptron())
    command.refused(code=2, words=["IN"])
    command.refused("inspect", code=2, words=["IN", "onnxprune inspect --help"])
    command.refused(path, *HALF, code=2, words=["name the file to write", "--dry-run"])
    command.refused(path, command.folder / "out.onnx", code=2, words=["--ratio", "--max-drop", "--replay"])


def test_names_that_match_nothing(command: Command) -> None:
    path = command.put(perceptron())
    out = command.folder / "out.onnx"
    for flag in ("--include", "--exclude"):
        command.refused(path, out, *HALF, flag, "gemm9", words=[flag, "'gemm9'", "onnxprune inspect"])
        command.refused("inspect", path, flag, "nothing.*", words=[flag, "'nothing.*'"])
    command.refused(
        path,
        out,
        *HALF,
        "--include",
        "gemm0",
        "--exclude",
        "gemm.*",
        words=["nothing to prune", "excluded by the options"],
    )


def test_shapes_that_do_not_fit(command: Command) -> None:
    path = command.model("lenet-300-100.onnx")
    out = command.folder / "out.onnx"
    for shape, words in (
        ("data:1,1,28,28", ["'data'", "is not an input", "input"]),
        ("input:1,1,14,14", ["[1, 1, 14, 14]", "symbolic dimensions"]),
        ("input:1,784", ["[1, 784]"]),
    ):
        command.refused(path, out, *HALF, "--input-shape", shape, words=["--input-shape", *words])
        command.refused("inspect", path, "--input-shape", shape, words=["--input-shape", *words])


def test_shapes_that_the_network_cannot_take(command: Command) -> None:
    """Height and width are symbolic in the file, but a Gemm behind a Flatten wants 8 × 8."""
    net = Net()
    x = net.input("n", 3, "h", "w")
    wide = net.add("Relu", net.conv(x, 8, 3))
    path = command.put(net.done(net.gemm(net.add("Flatten", wide), 4, 8 * 64)))
    out = command.folder / "out.onnx"
    command.refused(path, out, *HALF, words=["--input-shape"])
    command.refused(path, out, *HALF, "--input-shape", "x0:1,3,5,5")
    command.done(path, out, *HALF, "--input-shape", "x0:1,3,8,8")


def test_a_share_out_of_reach(command: Command) -> None:
    path = command.model("lenet-300-100.onnx")
    out = command.folder / "out.onnx"
    flags = (*FLAGS, "--exclude", "/fc1/Gemm", "--ratio", "0.9")
    for more in ((), ("--dry-run",), ("--allocation", "global"), ("--method", "coreset-sampled")):
        command.refused(path, out, *flags, *more, words=["0.9 cannot be reached: at most", "%", "--best-effort"])
    command.refused(path, out, *FLAGS, "--ratio", "0.00001", words=["remove nothing", "ask for more"])
    command.refused(path, out, *HALF, "--round-to", "4096", words=["at most 0.0%"])


def test_sampled_counts_cannot_be_rounded(command: Command) -> None:
    path = command.model("lenet-300-100.onnx")
    flags = ("--method", "coreset-sampled", "--round-to", "8")
    command.refused(path, command.folder / "out.onnx", *HALF, *flags, words=["--round-to 8", "coreset-distinct"])


# --- providers


def test_cuda_where_there_is_none(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    path = command.put(perceptron())
    monkeypatch.setattr(runtime, "provider_works", lambda name: name == runtime.CPU)
    for name in ("cuda", "CUDAExecutionProvider", "cpu,cuda"):
        command.refused(
            path,
            command.folder / "out.onnx",
            *HALF,
            "--providers",
            name,
            words=["CUDA", "not work", "CPUExecutionProvider"],
        )


# --- plans


def plan_of(command: Command, path: Path) -> dict[str, object]:
    plan = command.folder / "made.json"
    command.done(path, "--dry-run", *HALF, "--plan", plan)
    found: dict[str, object] = json.loads(plan.read_text())
    plan.unlink()
    return found


def test_plans_that_are_none(command: Command) -> None:
    path = command.put(perceptron())
    good = plan_of(command, path)
    plan = command.folder / "plan.json"
    (command.folder / "plans").mkdir()
    out = command.folder / "out.onnx"
    for name in ("none.json", "plans", "/dev/zero"):
        command.refused(path, out, "--replay", command.folder / name, words=["--replay", "--plan wrote"])
    plan.write_bytes(path.read_bytes())
    command.refused(path, out, "--replay", plan, words=["--replay", "no text"])
    without = {key: value for key, value in good.items() if key != "groups"}
    entry = {"name": "gemm0", "channels": 12, "kept": [0, 1], "factors": []}
    for text in (
        "",
        "{",
        "[]",
        "null",
        "3",
        "[" * 100_000,
        '{"format": 2}',
        json.dumps(without),
        json.dumps({**good, "groups": 3}),
        json.dumps({**good, "groups": [3]}),
        json.dumps({**good, "groups": [{}]}),
        json.dumps({**good, "source": None}),
        *(json.dumps({**good, "groups": [{**entry, **change}]}) for change in (
            {"kept": "01"},
            {"kept": [0.5]},
            {"kept": ["0"]},
            {"kept": [True]},
            {"kept": {}},
            {"factors": ["1"]},
            {"name": 3},
            {"channels": None},
        )),
    ):  # fmt: skip
        plan.write_text(text)
        command.refused(path, out, "--replay", plan, words=["plan.json", "--plan FILE"])


def test_plans_that_do_not_fit(command: Command) -> None:
    path = command.put(perceptron())
    good = plan_of(command, path)
    plan = command.folder / "plan.json"
    out = command.folder / "out.onnx"
    entry = {"name": "gemm0", "channels": 12, "kept": [0, 1], "factors": []}
    for changes in (
        [{"name": "gemm7"}],
        [{"channels": 13}],
        [{"kept": []}],
        [{"kept": [0, 12]}],
        [{"kept": [-1, 0]}],
        [{"kept": [1, 1]}],
        [{"kept": [1, 0]}],
        [{"kept": [10**40]}],
        [{"factors": [1.0]}],
        [{"factors": [1.0, float("nan")]}],
        [{"factors": [1.0, 0.0]}],
        [{}, {}],
    ):
        plan.write_text(json.dumps({**good, "groups": [{**entry, **change} for change in changes]}))
        command.refused(path, out, "--replay", plan, words=["plan", "make the plan anew"])
    other = command.put(perceptron(hidden=9), "other.onnx")
    plan.write_text(json.dumps(good))
    command.refused(other, out, "--replay", plan, words=["plan", "make the plan anew"])
    command.refused(path, out, "--replay", plan, "--exclude", "gemm0", words=["'gemm0'", "make the plan anew"])


def test_a_plan_that_keeps_unequal_rows(command: Command) -> None:
    path = command.put(convolutional())
    good = plan_of(command, path)
    groups = good["groups"]
    assert isinstance(groups, list)
    for entry in groups:
        entry["kept"] = entry["kept"][:1]
    plan = command.folder / "plan.json"
    plan.write_text(json.dumps(good))
    command.refused(path, command.folder / "out.onnx", "--replay", plan, words=["unequal", "make the plan anew"])


# --- values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_weights_that_are_not_finite(command: Command, value: float, place: int) -> None:
    proto = perceptron()
    tensor = proto.graph.initializer[place]
    array = numpy_helper.to_array(tensor).copy()
    array.flat[3] = value
    if place == 1 and value == -np.inf:
        return
    good = plan_of(command, command.put(perceptron()))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    path = command.put(proto)
    out = command.folder / "out.onnx"
    words = [f"'{tensor.name}'", "NaN or infinity", "--exclude"]
    for method in ("random", "l1", "l2", "coreset", "coreset-sampled", "coreset-distinct"):
        command.refused(path, out, *HALF, "--method", method, words=words)
    plan = command.folder / "plan.json"
    plan.write_text(json.dumps(good))
    command.refused(path, out, "--replay", plan, words=words)


def test_a_weight_that_is_not_finite_can_be_left_out(command: Command) -> None:
    proto = perceptron()
    tensor = proto.graph.initializer[4]
    array = numpy_helper.to_array(tensor).copy()
    array[:, 2] = np.inf
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    out = command.folder / "out.onnx"
    command.done(command.put(proto), out, *FLAGS, "--ratio", "0.2", "--exclude", "gemm4")
    assert weights(onnx.load(out))[tensor.name].tobytes() == array.tobytes()


def test_a_mask_of_minus_infinity_is_legal(command: Command) -> None:
    net = Net()
    x = net.input(6, 8)
    hidden = net.add("Relu", net.gemm(x, 60, 8))
    scores = net.gemm(hidden, 6, 60)
    mask = net.constant(np.triu(np.full((6, 6), -np.inf), 1), np.float32)
    path = command.put(net.done(net.add("Softmax", net.add("Add", scores, mask), axis=-1)))
    out = command.folder / "out.onnx"
    command.done(path, out, *HALF)
    assert np.isfinite(run_file(out, np.random.default_rng(0))[0]).all()


# --- networks


def test_nothing_to_prune(command: Command) -> None:
    net = Net()
    alone = net.done(net.add("Relu", net.input(2, 3)))
    net = Net()
    one = net.done(net.gemm(net.input(2, 3), 4, 3))
    net = Net()
    sealed = net.done(
        net.add("TopSecret", net.gemm(net.input(2, 3), 4, 3), domain=""),
    )
    for proto, words in ((alone, ["nothing to prune"]), (one, ["graph output", "graph input"]), (sealed, [])):
        path = command.put(proto)
        command.refused(
            path, command.folder / "out.onnx", *HALF, words=["nothing to prune", "onnxprune inspect", *words]
        )
        assert command.done("inspect", path).out


def test_a_file_whose_own_notes_keep_onnxruntime_from_loading_it(command: Command) -> None:
    """Its value_info gives shapes that contradict one another; without them it runs, and so it is proved."""
    path = DATA / "ocr-ppocrv3_det_en_2023may.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not at hand")
    assert "Sound" in command.done(path, command.folder / "out.onnx", *FLAGS, "--ratio", "0.3").out


@pytest.mark.parametrize(("ir", "opset"), [(14, 17), (13, 28), (14, 28)])
def test_versions_that_onnxruntime_does_not_read(command: Command, ir: int, opset: int) -> None:
    proto = perceptron()
    proto.ir_version = ir
    proto.opset_import[0].version = opset
    path = command.put(proto)
    try:
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  whatever onnxruntime raises
        assert any(word in str(error) for word in ("IR version", "opset"))
    else:
        pytest.skip("this onnxruntime reads it")
    command.refused(path, command.folder / "out.onnx", *HALF, words=["onnxruntime", "older", "newer onnxruntime"])


def test_a_foreign_operator_in_the_middle(command: Command) -> None:
    path = command.put(foreign(first=24, second=20))
    out, report = command.folder / "out.onnx", command.folder / "r.json"
    ran = command.done(path, out, *FLAGS, "--ratio", "0.4", "--report", report)
    facts = json.loads(report.read_text())
    kept = {group["name"]: group["kept"] / group["channels"] for group in facts["groups"]}
    assert kept["gemm0"] < 1
    assert any("cannot run" in item["reason"] and "Plugin" in item["reason"] for item in facts["pinned"])
    assert facts["validation"]["twin"]["passed"] and facts["validation"]["twin"]["compared"] > 0
    assert set(facts["validation"]["unproved"]) >= {onnx.load(path).graph.output[0].name}
    assert "Unproved" in ran.out
    saved = onnx.load(out)
    assert [node.op_type for node in saved.graph.node] == [node.op_type for node in onnx.load(path).graph.node]


def test_a_foreign_operator_before_everything(command: Command) -> None:
    path = command.put(foreign(first=0, second=40))
    command.refused(path, command.folder / "out.onnx", *FLAGS, "--ratio", "0.4", words=["onnxruntime", "proved"])


# --- interruption


@pytest.mark.parametrize("stage", ["rank", "apply", "validate", "place_of"])
def test_ctrl_c(command: Command, stage: str) -> None:
    """A real signal in a process of its own, at several stages of the run; the output that was there stays."""
    path = command.model("lenet-300-100.onnx")
    out = command.folder / "out.onnx"
    out.write_text("precious")
    before = command.tree()
    program = textwrap.dedent(f"""
        import sys, time
        from onnxprune import cli, pipeline
        original = pipeline.{stage}
        def slow(*args, **more):
            result = original(*args, **more)
            print("ready", flush=True)
            time.sleep(30)
            return result
        pipeline.{stage} = slow
        sys.argv[0] = "onnxprune"
        cli.entry()
        """)
    process = subprocess.Popen(
        [sys.executable, "-c", program, path, out, *HALF, "--report", command.folder / "r.json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=20)
    assert process.returncode == 130 and printed == ""
    assert errors.count("\n") == 1 and "interrupted" in errors
    assert command.tree() == before


# --- damage at random


def loads(path: Path) -> bool:
    """Tell whether onnxruntime loads a file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001  whatever onnxruntime raises
        return False
    return True


def test_random_damage(command: Command) -> None:
    """Bytes of a small network are changed at random: refused in one line, or pruned into a file that loads."""
    whole = command.put(convolutional()).read_bytes()
    rng = np.random.default_rng(5)
    path, out = command.folder / "in.onnx", command.folder / "out.onnx"
    for _ in range(200):
        damaged = np.frombuffer(whole, np.uint8).copy()
        # The graph's structure lies between the weights; half of the damage is aimed at the file's last part.
        low = 0 if rng.random() < 0.5 else len(damaged) - 1500
        places = rng.integers(low, len(damaged), rng.integers(1, 5))
        damaged[places] = rng.integers(0, 256, len(places))
        path.write_bytes(damaged.tobytes())
        ran = command(path, out, *FLAGS, "--ratio", "0.4", "--best-effort")
        assert "Traceback" not in ran.err and "fault of onnxprune" not in ran.err, (places, ran.err)
        assert ran.err.count("\n") == (ran.code != 0), (places, ran)
        assert out.exists() == (ran.code == 0)
        if out.exists():
            # An unknown operator is taken for a plugin; onnxruntime then loads neither file.
            assert loads(out) or not loads(path)
            out.unlink()
        assert sorted(file.name for file in command.folder.iterdir()) == ["in.onnx"]
