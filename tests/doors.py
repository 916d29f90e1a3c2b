"""Runs the command within the test's process, and makes networks and files to run it on."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from net import Net
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

import onnxprune
from onnxprune.cli import main

__all__ = [
    "DATA",
    "FLAGS",
    "MODELS",
    "PLAIN",
    "ROOT",
    "Command",
    "Ran",
    "convolutional",
    "dense",
    "foreign",
    "half",
    "perceptron",
    "prune_plain",
    "run_file",
    "signature",
    "weights",
]

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
DATA = ROOT.parent / "shared" / "data" / "models"

PLAIN: dict[str, Any] = {"method": "coreset", "allocation": "global", "refit": "off"}
"""Options of a prune by weights alone: most tests are about what comes before and after the choice of channels."""

FLAGS = tuple(text for name, value in PLAIN.items() for text in (f"--{name}", value))
"""The same for the command; flags that come after them win."""


@dataclass(frozen=True)
class Ran:
    """What came of a command."""

    code: int
    out: str
    err: str


class Command:
    """The command in a folder of its own."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys

    def __call__(self, *arguments: object) -> Ran:
        self.capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = self.capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    def done(self, *arguments: object) -> Ran:
        """Run the command, which has to succeed, silently on stderr."""
        ran = self(*arguments)
        assert (ran.code, ran.err) == (0, ""), ran
        return ran

    def refused(self, *arguments: object, code: int = 1, words: Sequence[str] = ()) -> str:
        """Run the command, which has to fail with one line and to leave everything as it is; returns the line."""
        before = self.tree()
        ran = self(*arguments)
        assert ran.code == code and ran.out == "", ran
        assert ran.err.startswith("onnxprune: error: ") and ran.err.count("\n") == 1 and ran.err.endswith("\n"), ran
        assert "Traceback" not in ran.err and "fault of onnxprune" not in ran.err, ran
        assert all(word in ran.err for word in words), ran.err
        assert self.tree() == before, "something was written, or left behind"
        return ran.err

    def tree(self) -> dict[str, bytes | None]:
        """Everything below the folder."""
        files = sorted(self.folder.rglob("*"))
        return {str(file): file.read_bytes() if file.is_file() else None for file in files}

    def put(self, proto: ModelProto, name: str = "in.onnx", *, external: bool = False) -> Path:
        """Write a network into the folder."""
        path = self.folder / name
        if external:
            copy = onnx.ModelProto.FromString(proto.SerializeToString())
            onnx.save(copy, path, save_as_external_data=True, location=f"{name}.data", size_threshold=0)
        else:
            onnx.save(proto, path)
        return path

    def model(self, name: str) -> Path:
        """Copy one of the repository's networks into the folder."""
        return Path(shutil.copy(MODELS / name, self.folder / name))


def prune_plain(model: Any, **options: Any) -> onnxprune.Result:
    """Prune by weights alone, but for what the options say."""
    return onnxprune.prune(model, **{**PLAIN, **options})


def perceptron(*, hidden: int = 12, seed: int = 0) -> ModelProto:
    """8 → hidden → hidden → 4 features with Relu, without symbolic dimensions."""
    net = Net(seed=seed)
    x = net.input(5, 8)
    first = net.add("Relu", net.gemm(x, hidden, 8))
    second = net.add("Relu", net.gemm(first, hidden, hidden))
    return net.done(net.gemm(second, 4, hidden))


def convolutional(*, seed: int = 0) -> ModelProto:
    """A residual block, a depthwise and a grouped convolution, a Concat, and a Gemm behind a Flatten."""
    net = Net(seed=seed)
    x = net.input("n", 3, 8, 8)
    stem = net.add("Relu", net.conv(x, 16, 3, kernel=(3, 3), pads=[1, 1, 1, 1]))
    inner = net.add("Relu", net.conv(stem, 24, 16))
    joined = net.add("Add", stem, net.conv(inner, 16, 24))
    deep = net.add("Relu", net.conv(joined, 16, 16, kernel=(3, 3), pads=[1, 1, 1, 1], group=16))
    grouped = net.conv(deep, 16, 16, group=4)
    both = net.add("Concat", grouped, joined, axis=1)
    pooled = net.add("MaxPool", both, kernel_shape=[4, 4], strides=[4, 4])
    return net.done(net.gemm(net.add("Flatten", pooled), 10, 32 * 4))


def dense(*, sizes: Sequence[int] = (20, 60, 40, 30, 10), seed: int = 0) -> ModelProto:
    """A chain of fully connected layers."""
    net = Net(seed=seed)
    x = net.input("n", sizes[0])
    for number, (read, made) in enumerate(pairwise(sizes)):
        x = net.gemm(x, made, read)
        x = x if number + 2 == len(sizes) else net.add("Relu", x)
    return net.done(x)


def foreign(*, first: int, second: int) -> ModelProto:
    """Two hidden layers, a plugin, two hidden layers; the plugin's shape is noted in the file."""
    net = Net()
    x = net.input(5, 8)
    before = net.gemm(net.add("Relu", net.gemm(x, first, 8)), 6, first) if first else x
    width = 6 if first else 8
    plugin = net.add("Plugin", before, domain="acme")
    after = net.gemm(net.add("Relu", net.gemm(plugin, second, width)), 4, second)
    end = net.add("Relu", after)
    proto = net.done(end)
    proto.graph.value_info.append(helper.make_tensor_value_info(plugin, TensorProto.FLOAT, [5, width]))
    proto.graph.output[0].CopyFrom(helper.make_tensor_value_info(end, TensorProto.FLOAT, [5, 4]))
    return proto


def weights(proto: ModelProto) -> dict[str, NDArray[np.generic]]:
    """Initializers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def half(proto: ModelProto) -> ModelProto:
    """The same network in half precision."""
    for tensor in proto.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    return proto


def signature(proto: ModelProto) -> tuple[list[Any], list[Any]]:
    """Inputs and outputs, with types and shapes."""
    return list(proto.graph.input), list(proto.graph.output)


def run_file(path: Path | bytes, rng: np.random.Generator, batch: int = 2) -> list[NDArray[np.generic]]:
    """Run a network by onnxruntime on random floats."""
    session = onnxruntime.InferenceSession(
        str(path) if isinstance(path, Path) else path, providers=["CPUExecutionProvider"]
    )
    sizes = {
        value.name: [size if isinstance(size, int) else batch for size in value.shape] for value in session.get_inputs()
    }
    return list(session.run(None, {name: rng.standard_normal(size).astype(np.float32) for name, size in sizes.items()}))


Maker = Callable[[], ModelProto]
