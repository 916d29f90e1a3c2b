"""ONNX files as modules of PyTorch, so that what was pruned can be trained, and compared with what others make of it.

The operators are those of small networks for classification. Weights that are zero stay zero where a network was made
sparse; BatchNormalization trains as usual.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, helper, numpy_helper
from reproduce_accuracy import session_of, top1
from torch import Tensor, nn
from torch.nn import functional
from train_models import load_split, train

from onnxprune.graph import io
from onnxprune.graph.index import Index
from onnxprune.rewrite import redraw
from onnxprune.shapes.infer import infer_shapes

__all__ = ["OnnxModule", "connected", "fresh", "images_of", "right", "trained"]

Attributes = dict[str, Any]


def _padded(x: Tensor, given: Attributes, value: float = 0.0) -> Tensor:
    pads = given.get("pads", [0, 0, 0, 0])
    return functional.pad(x, (pads[1], pads[3], pads[0], pads[2]), value=value) if any(pads) else x


def _conv(given: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    more = {"stride": given.get("strides", 1), "dilation": given.get("dilations", 1), "groups": given.get("group", 1)}
    return functional.conv2d(_padded(x, given), weight, bias, **more)


def _gemm(given: Attributes, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    found = x @ (weight.T if given.get("transB") else weight)
    return found if bias is None else found + bias


def _max_pool(given: Attributes, x: Tensor) -> Tensor:
    wide = _padded(x, given, -torch.inf)
    return functional.max_pool2d(wide, given["kernel_shape"], given.get("strides", 1))


def _average_pool(given: Attributes, x: Tensor) -> Tensor:
    return functional.avg_pool2d(_padded(x, given), given["kernel_shape"], given.get("strides", 1))


def _reduce_mean(given: Attributes, x: Tensor, axes: Tensor | None = None) -> Tensor:
    over = given["axes"] if axes is None else axes.tolist()
    return x.mean(dim=tuple(over), keepdim=bool(given.get("keepdims", 1)))


OPERATORS: dict[str, Callable[..., Tensor]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": lambda given, x, weight: x @ weight,
    "Add": lambda given, x, y: x + y,
    "Relu": lambda given, x: functional.relu(x),
    "Tanh": lambda given, x: torch.tanh(x),
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda given, x: x.mean(dim=(2, 3), keepdim=True),
    "ReduceMean": _reduce_mean,
    "Flatten": lambda given, x: torch.flatten(x, 1),
    "Reshape": lambda given, x, shape: x.reshape(len(x), *shape.tolist()[1:]),
    "Identity": lambda given, x: x,
}


class OnnxModule(nn.Module):
    """A network of an ONNX file.

    Parameters
    ----------
    proto : ModelProto
    sparse : bool
        Whether weights that are zero stay so.
    """

    def __init__(self, proto: ModelProto, *, sparse: bool = False) -> None:
        super().__init__()
        self.proto = proto
        self.names: dict[str, str] = {}
        self.masks: dict[str, str] = {}
        norms = [node for node in proto.graph.node if node.op_type == "BatchNormalization"]
        statistics = {name for node in norms for name in node.input[3:]}
        for number, tensor in enumerate(proto.graph.initializer):
            value, name = torch.from_numpy(numpy_helper.to_array(tensor).copy()), f"t{number}"
            self.names[tensor.name] = name
            if not value.is_floating_point() or tensor.name in statistics:
                self.register_buffer(name, value)
                continue
            self.register_parameter(name, nn.Parameter(value))
            if sparse and value.dim() > 1:
                self.masks[tensor.name] = f"mask{number}"
                self.register_buffer(f"mask{number}", (value != 0).to(value.dtype))

    def value(self, name: str) -> Tensor:
        """A stored tensor, without what is gone of it."""
        found: Tensor = getattr(self, self.names[name])
        return found * getattr(self, self.masks[name]) if name in self.masks else found

    def forward(self, x: Tensor) -> Tensor:
        """Return the first output."""
        values: dict[str, Tensor] = {self.proto.graph.input[0].name: x}
        for node in self.proto.graph.node:
            given = {item.name: helper.get_attribute_value(item) for item in node.attribute}
            if node.op_type == "Constant":
                values[node.output[0]] = torch.from_numpy(numpy_helper.to_array(given["value"]).copy())
                continue
            read = [values[name] if name in values else self.value(name) for name in node.input if name]
            norm = node.op_type == "BatchNormalization"
            values[node.output[0]] = self._normalised(given, read) if norm else OPERATORS[node.op_type](given, *read)
        return values[self.proto.graph.output[0].name]

    def _normalised(self, given: Attributes, read: list[Tensor]) -> Tensor:
        x, scale, shift, mean, variance = read
        more = {"training": self.training, "momentum": 0.1, "eps": given.get("epsilon", 1e-5)}
        return functional.batch_norm(x, mean, variance, scale, shift, **more)

    def written(self) -> ModelProto:
        """The same file with the weights as they are now."""
        made = ModelProto()
        made.CopyFrom(self.proto)
        for tensor in made.graph.initializer:
            tensor.CopyFrom(numpy_helper.from_array(self.value(tensor.name).detach().numpy(), tensor.name))
        return made


def fresh(proto: ModelProto, seed: int) -> ModelProto:
    """The same architecture with weights drawn anew."""
    model = io.from_proto(proto)
    index = Index(model.proto)
    redraw(model, index, infer_shapes(index, model.skeleton(), {}), seed)
    return model.materialise()


def connected(proto: ModelProto, images: Tensor) -> bool:
    """Whether weights that are not zero lead from the images to any output, in a network without normalisation."""
    module = OnnxModule(proto)
    with torch.inference_mode():
        for weight in module.parameters():
            # Of magnitudes nothing cancels, and without biases only what comes from the images arrives.
            weight.copy_(weight.abs() if weight.dim() > 1 else torch.zeros_like(weight))
        return bool(module(torch.ones_like(images[:1])).any())


def images_of(path: Path, train_images: int | None, seed: int = 0) -> tuple[tuple[Tensor, Tensor], tuple[Any, Any]]:
    """Images to train on, some of them at random where fewer are wanted, and images to test on."""
    images, labels = load_split(path, "train")
    if train_images is not None and train_images < len(images):
        chosen = torch.from_numpy(np.random.default_rng(seed).permutation(len(images))[:train_images].copy())
        images, labels = images[chosen], labels[chosen]
    tested, wanted = load_split(path, "test")
    return (images, labels), (tested.numpy(), wanted.numpy())


def trained(
    proto: ModelProto,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    rate: float,
    seed: int,
    sparse: bool = False,
) -> ModelProto:
    """Train a network and return it; what PyTorch computes is first seen to be what onnxruntime does."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    module = OnnxModule(proto, sparse=sparse)
    _require_alike(module, images[:32])
    train(module, images, labels, epochs, rate, verbose=False)
    module.eval()
    return module.written()


def _require_alike(module: OnnxModule, images: Tensor) -> None:
    module.eval()
    session = session_of(module.proto)
    (found,) = session.run([module.proto.graph.output[0].name], {session.get_inputs()[0].name: images.numpy()})
    with torch.inference_mode():
        own = module(images).numpy()
    gap = float(np.abs(own - found).max() / max(np.abs(found).max(), 1e-6))
    if gap > 1e-4:
        raise SystemExit(f"PyTorch computes something else than onnxruntime: {gap:.1e} apart")


def right(proto: ModelProto, tested: tuple[Any, Any]) -> float:
    """Top-1 in percent, by onnxruntime."""
    onnx.checker.check_model(proto)
    return top1(proto, *tested)
