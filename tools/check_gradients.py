#!/usr/bin/env python3
"""Compare derivatives of networks with PyTorch's: by all weights and by the input, and how long both take.

    python tools/check_gradients.py [resnet18 mobilenet_v2 densenet121 vit_tiny gpt2_block …] [--batch 2] [--shared DIR]

Weights are drawn; the loss is a fixed random weighing of the outputs. Printed is the largest relative error (L2) of any
derivative, against PyTorch in float64; that of PyTorch in float32 beside it, since a rectifier or a largest one that is
decided otherwise by rounding is no small change; the times of a forward pass and of one with all derivatives, in
onnxruntime and in PyTorch, and the memory at its peak. All of that is on the CPU, or for onnxruntime on --provider.
--shared DIR holds `torchvision_cpu.py`, for where torchvision finds no CUDA. --activations prints the time of
derivatives by all activations alone, --weights of those by all weights, where onnxruntime works best (CUDA, if it is
there), beside PyTorch's on the same device, both without TF32. Exits with 1 where an error is above 1e-4, and above
twice that of PyTorch in float32.
"""

from __future__ import annotations

import argparse
import importlib
import io
import resource
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper

from onnxprune.gradient import differentiate
from onnxprune.graph.runtime import Effort, Session, choose_providers

LIMIT = 1e-4
NETWORKS = ("resnet18", "mobilenet_v2", "densenet121", "vit_tiny", "gpt2_block")


class Block(torch.nn.Module):
    """A block of the size of GPT-2's: causal attention and a perceptron, each behind a LayerNorm."""

    def __init__(self, width: int = 768, heads: int = 12) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = torch.nn.LayerNorm(width), torch.nn.LayerNorm(width)
        self.mixed, self.made = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, width)
        self.wide, self.narrow = torch.nn.Linear(width, 4 * width), torch.nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run it."""
        count, length, width = x.shape
        parts = self.mixed(self.before(x)).reshape(count, length, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        weights = scores.masked_fill(hidden, -1e9).softmax(-1)
        x = x + self.made((weights @ v).transpose(1, 2).reshape(count, length, width))
        return x + self.narrow(torch.nn.functional.gelu(self.wide(self.between(x)), approximate="tanh"))


def network(name: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    """A network with drawn weights, and the shape of a sample."""
    torch.manual_seed(0)
    model, shape = _made(name)
    with torch.no_grad():
        for parameter in model.parameters():  # equal ones would be exported as one
            parameter += 0.05 * torch.randn_like(parameter) * parameter.abs().mean().clamp(min=0.01)
    return model.eval(), shape


def _made(name: str) -> tuple[torch.nn.Module, tuple[int, ...]]:
    if name == "gpt2_block":
        return Block(), (64, 768)
    if name == "vit_tiny":
        timm = importlib.import_module("timm")
        return timm.create_model("vit_tiny_patch16_224"), (3, 224, 224)
    torchvision = importlib.import_module("torchvision")
    return getattr(torchvision.models, name)(weights=None), (3, 224, 224)


def exported(model: torch.nn.Module, x: torch.Tensor) -> onnx.ModelProto:
    """The network as ONNX, nothing folded, so that weights are those of PyTorch."""
    buffer = io.BytesIO()
    axes = {"x": {0: "n"}, "y": {0: "n"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (x,), buffer, dynamo=False, opset_version=17, input_names=["x"], output_names=["y"],
            dynamic_axes=axes, do_constant_folding=False, training=torch.onnx.TrainingMode.EVAL,
            export_params=True, keep_initializers_as_inputs=False,
        )  # fmt: skip
    return onnx.load_from_string(buffer.getvalue())


def timed(run: Callable[[], Any], times: int = 3) -> tuple[float, Any]:
    """The shortest time of some runs, and what the last one gave."""
    best, found = float("inf"), None
    for _ in range(times):
        start = time.perf_counter()
        found = run()
        best = min(best, time.perf_counter() - start)
    return best, found


def compared(name: str, batch: int, provider: str) -> bool:
    """Print a row, and tell whether derivatives are right."""
    model, shape = network(name)
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1))
    proto = exported(model, x)
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    parameters = {key: value for key, value in model.named_parameters() if key in stored and value.requires_grad}
    gradient = differentiate(proto, ["x", *parameters])
    forward, backward = (
        Session(each.SerializeToString(), choose_providers([provider]), effort=Effort(fast=True))
        for each in (proto, gradient.proto)
    )
    plain, outputs = timed(lambda: forward.run({"x": x.numpy()}))
    seed = np.random.default_rng(2).standard_normal(outputs["y"].shape).astype(np.float32)
    assert gradient.seeds is not None
    whole, found = timed(lambda: backward.run({"x": x.numpy(), gradient.seeds["y"]: seed}))
    leaf = x.clone().requires_grad_()

    def torch_forward() -> torch.Tensor:
        with torch.no_grad():
            return model(x)

    def torch_backward() -> None:
        model.zero_grad()
        leaf.grad = None
        model(leaf).backward(torch.from_numpy(seed))

    own_plain, _ = timed(torch_forward)
    own_whole, _ = timed(torch_backward)
    single = {"x": leaf.grad.numpy(), **{key: value.grad.numpy().copy() for key, value in parameters.items()}}
    exact = model.double()
    exact.zero_grad()
    wide = x.double().requires_grad_()
    exact(wide).backward(torch.from_numpy(seed).double())
    wanted = {"x": wide.grad, **{key: value.grad for key, value in exact.named_parameters() if key in parameters}}
    errors, others = {}, {}
    for key, value in wanted.items():
        expected = value.numpy()
        length = max(float(np.linalg.norm(expected)), 1e-12)
        errors[key] = float(np.linalg.norm(found[gradient.of[key]] - expected)) / length
        others[key] = float(np.linalg.norm(single[key] - expected)) / length
    worst = max(errors, key=lambda key: errors[key])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    count, own = f"{len(wanted)} of {1 + len(list(model.parameters()))}", max(others.values())
    times = f"{plain:.3f} / {whole:.3f} s, {whole / plain:.1f} times | {own_plain:.3f} / {own_whole:.3f} s"
    print(f"| {name} | {count} | {errors[worst]:.1e} ({worst}) | {own:.1e} | {times} | {peak:.1f} GB |", flush=True)
    return errors[worst] <= max(LIMIT, 2 * own)


def speed(name: str, batch: int, *, weights: bool) -> None:
    """Print the time of a forward pass and of one with derivatives: by what all rectifiers make, or by all weights."""
    model, shape = network(name)
    x = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1))
    proto, providers = exported(model, x), choose_providers()
    parameters = {key for key, _ in model.named_parameters()}
    by = [node.output[0] for node in proto.graph.node if node.op_type in ("Relu", "Clip", "Gelu", "Softmax")]
    if weights:
        by = [tensor.name for tensor in proto.graph.initializer if tensor.name in parameters]
    gradient = differentiate(proto, by, outputs=["y"])
    total = [helper.make_node("ReduceL2", [gradient.of[name]], [f"length_of_{name}"], keepdims=0) for name in by]
    gradient.proto.graph.node.extend(total)  # so that what is copied from the device is a number each
    del gradient.proto.graph.output[1:]
    gradient.proto.graph.output.extend(onnx.ValueInfoProto(name=node.output[0]) for node in total)
    forward, backward = (
        Session(each.SerializeToString(), providers, effort=Effort(fast=True)) for each in (proto, gradient.proto)
    )
    forward.run({"x": x.numpy()})
    plain, outputs = timed(lambda: forward.run({"x": x.numpy()}), 5)
    assert gradient.seeds is not None
    feeds = {"x": x.numpy(), gradient.seeds["y"]: np.ones_like(outputs["y"])}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    backward.run(feeds)
    whole, _ = timed(lambda: backward.run(feeds), 5)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    torch.backends.cudnn.allow_tf32 = False
    device = torch.device("cuda" if forward.provider.startswith("CUDA") and torch.cuda.is_available() else "cpu")
    model, leaf = model.to(device).requires_grad_(weights), x.to(device).requires_grad_(not weights)
    inputs = list(model.parameters()) if weights else [leaf]

    def own(*, backward: bool) -> None:
        with torch.set_grad_enabled(backward):
            found = model(leaf)
        if backward:
            torch.autograd.grad(found.sum(), inputs)
        if device.type == "cuda":
            torch.cuda.synchronize()

    own(backward=True)
    times = [timed(lambda which=which: own(backward=which), 5)[0] for which in (False, True)]
    ours = f"{forward.provider} {plain:.3f} / {whole:.3f} s, {whole / plain:.1f} times"
    theirs = f"PyTorch on {device.type} {times[0]:.3f} / {times[1]:.3f} s, {times[1] / times[0]:.1f} times"
    print(f"| {name}, batch {batch} | {len(by)} | {ours} | {theirs} | {before:.1f} / {peak:.1f} GB |", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK", help="(default: all)")
    parser.add_argument("--batch", type=int, default=2, help="(default: %(default)s)")
    parser.add_argument("--shared", type=Path, metavar="DIR", help="holds torchvision_cpu.py")
    parser.add_argument("--provider", default="cpu", help="cpu or cuda (default: %(default)s)")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--activations", action="store_true", help="time derivatives by activations alone")
    only.add_argument("--weights", action="store_true", help="time derivatives by weights alone")
    args = parser.parse_args(argv)
    if args.shared is not None:
        sys.path.insert(0, str(args.shared))
        importlib.import_module("torchvision_cpu")
    if args.activations or args.weights:
        print("| network | derivatives | forward / with derivatives | PyTorch | memory before / peak |")
        print("|---|---|---|---|---|")
        for name in args.networks:
            speed(name, args.batch, weights=args.weights)
        return 0
    print("| network | derivatives | error | PyTorch's | onnxruntime: forward / with derivatives | PyTorch | peak |")
    print("|---|---|---|---|---|---|---|")
    rows = [compared(name, args.batch, args.provider) for name in args.networks]
    return int(not all(rows))


if __name__ == "__main__":
    sys.exit(main())
