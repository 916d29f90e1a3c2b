#!/usr/bin/env python3
"""Write big networks with seeded random weights, as test networks for onnxprune.

    python tools/big_networks.py decoder OUT.onnx --gigabytes 3 [--mlp gelu] [--tied]
    python tools/big_networks.py attention OUT.onnx --nodes 50000
    python tools/big_networks.py residual OUT.onnx --nodes 50000

`decoder` is a causal language model as exporters write one: tokens and positions looked up, LayerNormalization, heads
by Reshape and Transpose with sizes computed at run time, a gated or a plain MLP, a head of its own or the embedding
transposed. Its weights go to OUT.onnx.data piece by piece, so that no more than one piece is ever in memory.
`attention` is the same network, narrow and of as many layers as make so many nodes; `residual` a chain of convolutions
with residual connections.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHUNK = 1 << 22
# Weights from this many elements on go to the data file, at offsets that can be memory-mapped.
EXTERNAL_MINIMUM, PAGE = 1 << 12, 4096
CONTEXT = 512
NODES_OF_A_CONVOLUTION = 2


@dataclass
class Writer:
    """A network under construction, whose big weights are on disk already."""

    path: Path
    data: BinaryIO | None
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)

    def constant(self, name: str, value: Any) -> str:
        """Store a small tensor."""
        self.initializers.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, name: str, *shape: int, scale: float) -> str:
        """Draw a weight, piece by piece into the data file where it is big."""
        count = math.prod(shape)
        if self.data is None or count < EXTERNAL_MINIMUM:
            return self.constant(name, self._draw(count, scale).reshape(shape))
        self.data.write(bytes(-self.data.tell() % PAGE))
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": f"{self.path.name}.data", "offset": self.data.tell(), "length": 4 * count}
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=str(value))
        for start in range(0, count, CHUNK):
            self.data.write(self._draw(min(CHUNK, count - start), scale).data)
        self.initializers.append(tensor)
        return name

    def _draw(self, count: int, scale: float) -> np.ndarray:
        return self.rng.standard_normal(count, dtype=np.float32) * np.float32(scale)

    def add(self, operator: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Append a node that is named after its only output."""
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name=name, **attributes))
        return name

    def finish(self, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto]) -> None:
        """Write the ONNX file."""
        graph = helper.make_graph(self.nodes, self.path.stem, inputs, outputs, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        self.path.write_bytes(model.SerializeToString())


@dataclass(frozen=True)
class Decoder:
    """Sizes of a causal language model."""

    width: int = 1536
    heads: int = 12
    inner: int = 4096
    words: int = 32000
    gated: bool = True
    tied: bool = False

    @property
    def layer(self) -> int:
        """Parameters of one layer, vectors aside."""
        return 4 * self.width**2 + (3 if self.gated else 2) * self.width * self.inner

    def layers(self, parameters: float) -> int:
        """Number of layers that come nearest to so many parameters."""
        tables = (1 if self.tied else 2) * self.words * self.width + CONTEXT * self.width
        return max(1, round((parameters - tables) / self.layer))

    def write(self, to: Writer, layers: int) -> None:
        """Write the network."""
        dims = ["batch", "sequence"]
        ids = helper.make_tensor_value_info("input_ids", TensorProto.INT64, dims)
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [*dims, self.words])
        for name, value in (("zero", 0), ("one", 1)):
            to.constant(name, np.int64(value))
        to.constant("first", np.array([0], np.int64))
        to.constant("hidden", np.float32(-1e9))
        to.constant("sharpness", np.float32(1.0 / math.sqrt(self.width // self.heads)))
        for name, value in (("heads", self.heads), ("depth", self.width // self.heads), ("all", -1)):
            to.constant(name, np.array([value], np.int64))
        embedding = to.weight("embedding", self.words, self.width, scale=1.0)
        position = to.weight("positions", CONTEXT, self.width, scale=0.1)
        to.add("Shape", "input_ids", name="shape")
        to.add("Gather", "shape", "one", name="length", axis=0)
        to.add("Range", "zero", "length", "one", name="range")
        to.add("Unsqueeze", "range", to.constant("last", np.array([-1], np.int64)), name="row")
        to.add("LessOrEqual", "range", "row", name="mask")
        words = to.add("Gather", embedding, "input_ids", name="words")
        x = to.add("Add", words, to.add("Gather", position, "range", name="places"), name="stream")
        for number in range(layers):
            x = self._layer(to, x, f"layers.{number}")
        x = self._normalized(to, x, "norm")
        if self.tied:
            head = to.add("Transpose", embedding, name="head", perm=[1, 0])
        else:
            head = to.weight("head", self.width, self.words, scale=self.width**-0.5)
        to.add("MatMul", x, head, name="logits")
        to.finish([ids], [logits])

    def _layer(self, to: Writer, x: str, name: str) -> str:
        x = to.add("Add", x, self._attention(to, self._normalized(to, x, f"{name}.norm1"), name), name=f"{name}.mid")
        y = self._mlp(to, self._normalized(to, x, f"{name}.norm2"), name)
        return to.add("Add", x, y, name=f"{name}.out")

    def _normalized(self, to: Writer, x: str, name: str) -> str:
        gain = to.constant(f"{name}.weight", np.ones(self.width, np.float32))
        shift = to.constant(f"{name}.bias", np.zeros(self.width, np.float32))
        return to.add("LayerNormalization", x, gain, shift, name=name)

    def _dense(self, to: Writer, x: str, name: str, made: int, read: int) -> str:
        return to.add("MatMul", x, to.weight(f"{name}.weight", read, made, scale=read**-0.5), name=name)

    def _attention(self, to: Writer, x: str, name: str) -> str:
        to.add("Shape", x, name=f"{name}.shape")
        sizes = [to.add("Gather", f"{name}.shape", at, name=f"{name}.{at}", axis=0) for at in ("zero", "one")]
        sizes = [to.add("Unsqueeze", size, "first", name=f"{size}_list") for size in sizes]
        split = to.add("Concat", *sizes, "heads", "depth", name=f"{name}.split", axis=0)
        parts = {}
        for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            dense = self._dense(to, x, f"{name}.{part}", self.width, self.width)
            shaped = to.add("Reshape", dense, split, name=f"{name}.{part}_heads")
            parts[part] = to.add("Transpose", shaped, name=f"{name}.{part}_turned", perm=order)
        scores = to.add("MatMul", parts["q"], parts["k"], name=f"{name}.scores")
        scores = to.add("Mul", scores, "sharpness", name=f"{name}.scaled")
        scores = to.add("Where", "mask", scores, "hidden", name=f"{name}.masked")
        shares = to.add("Softmax", scores, name=f"{name}.shares", axis=-1)
        mixed = to.add("MatMul", shares, parts["v"], name=f"{name}.mixed")
        mixed = to.add("Transpose", mixed, name=f"{name}.mixed_turned", perm=[0, 2, 1, 3])
        merge = to.add("Concat", *sizes, "all", name=f"{name}.merge", axis=0)
        mixed = to.add("Reshape", mixed, merge, name=f"{name}.merged")
        return self._dense(to, mixed, f"{name}.o", self.width, self.width)

    def _mlp(self, to: Writer, x: str, name: str) -> str:
        up = self._dense(to, x, f"{name}.up", self.inner, self.width)
        if self.gated:
            gate = self._dense(to, x, f"{name}.gate", self.inner, self.width)
            gate = to.add("Mul", gate, to.add("Sigmoid", gate, name=f"{name}.sigmoid"), name=f"{name}.silu")
            active = to.add("Mul", gate, up, name=f"{name}.active")
        else:
            scaled = to.add("Mul", up, self._scalar(to, "root_half", math.sqrt(0.5)), name=f"{name}.over_root")
            erf = to.add("Erf", scaled, name=f"{name}.erf")
            gate = to.add("Add", erf, self._scalar(to, "unit", 1.0), name=f"{name}.gate")
            active = to.add("Mul", up, gate, name=f"{name}.twice")
            active = to.add("Mul", active, self._scalar(to, "half", 0.5), name=f"{name}.active")
        return self._dense(to, active, f"{name}.down", self.width, self.inner)

    def _scalar(self, to: Writer, name: str, value: float) -> str:
        if all(tensor.name != name for tensor in to.initializers[:20]):
            to.initializers.insert(0, numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name


def decoder(path: Path, gigabytes: float, *, gated: bool, tied: bool) -> None:
    """Write a causal language model of so many bytes."""
    shape = Decoder(gated=gated, tied=tied)
    with path.with_name(f"{path.name}.data").open("wb") as data:
        shape.write(Writer(path, data), shape.layers(gigabytes * 1e9 / 4))


def attention(path: Path, nodes: int) -> None:
    """Write a narrow causal language model of about so many nodes."""
    shape = Decoder(width=8, heads=2, inner=16, words=32)
    trial = Writer(path, None)
    shape.write(trial, 1)
    one = len(trial.nodes)
    trial = Writer(path, None)
    shape.write(trial, 2)
    more = len(trial.nodes) - one
    shape.write(Writer(path, None), 1 + round((nodes - one) / more))


def residual(path: Path, nodes: int) -> None:
    """Write a chain of convolutions of about so many nodes; every second one ends a residual block."""
    to, width = Writer(path, None), 8
    count = round((nodes - 1) / NODES_OF_A_CONVOLUTION)
    x = block = "x"
    for number in range(count):
        read = 3 if x == "x" else width
        ends = number % 2 and number > 2
        # All blocks together are about as loud as what they are added to.
        scale = (2 / count) ** 0.5 if ends else 1.0
        weight = to.weight(f"w{number}", width, read, 1, 1, scale=scale * (2 / read) ** 0.5)
        x = to.add("Conv", x, weight, name=f"conv{number}")
        if ends:
            x = block = to.add("Add", x, block, name=f"add{number}")
        else:
            x = to.add("Relu", x, name=f"relu{number}")
            block = x if number == 1 else block
    to.add("GlobalAveragePool", x, name="y")
    picture = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])
    to.finish([picture], [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width, 1, 1])])


def main(argv: Sequence[str] | None = None) -> None:
    """Write one network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=("decoder", "attention", "residual"))
    parser.add_argument("output", type=Path, metavar="OUT")
    parser.add_argument("--gigabytes", type=float, default=3.0, help="size of decoder (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=50000, help="of attention and residual (default: %(default)s)")
    parser.add_argument("--mlp", choices=("gated", "gelu"), default="gated", help="(default: %(default)s)")
    parser.add_argument("--tied", action="store_true", help="the head is the embedding, transposed")
    args = parser.parse_args(argv)
    if args.kind == "decoder":
        decoder(args.output, args.gigabytes, gated=args.mlp == "gated", tied=args.tied)
    elif args.kind == "attention":
        attention(args.output, args.nodes)
    else:
        residual(args.output, args.nodes)


if __name__ == "__main__":
    main()
