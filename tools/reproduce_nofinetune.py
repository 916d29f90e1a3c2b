#!/usr/bin/env python3
"""Print what is left of trained networks after pruning without fine-tuning: top-1 with no data, and with a few samples.

    python tools/reproduce_nofinetune.py --data DATA [TASK…] [--methods auto l1 l1+refit auto@accuracy …] [--seeds 3]

DATA holds mnist/, cifar10/, imagenet/, text/ and models/. Labels of the test sets serve for the figures only; nothing
was tuned on them. "no data" learns from synthetic inputs, "data" from 1,024 training images (of ImageNet 512; for the
language model texts that it writes itself) without labels. A method's name alone keeps the readers' weights, `+refit`
solves them anew, `+distill` moves all weights on from there; `submodular…` is always solved anew, and `auto` alone is
what the command does by default: both. What follows `@` is --allocation: the training images have their labels then, so
that all allocations learn from the same three quarters of them. Tasks: see --list.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from reproduce_accuracy import BATCH, NETWORKS, session_of, top1

import onnxprune

Array = NDArray[Any]
SAMPLES = 1024
METHODS = ("auto", "auto+refit", "l1", "l1+refit", "submodular-layer", "submodular-seq", "submodular", "coreset+refit")
METHODS += ("lowner+refit", "fisher+refit", "taylor+refit", "taylor-weights+refit", "synflow+refit", "random+refit")


@dataclass(frozen=True)
class Task:
    """A network, what is removed of it, and the figures that are wanted without and with data (None: reported)."""

    network: str
    request: dict[str, Any]
    wanted: tuple[float | None, float | None]
    data: Callable[[Path, int | None], tuple[Array, Array, Array | None]] = field(repr=False)
    model: str


def _stored(network: str) -> tuple[str, str, str]:
    """File of the training images of a network that reproduce_accuracy.py knows, and what they are called there."""
    mnist = "mnist" in NETWORKS[network].images
    return ("mnist/mnist.npz", "x_train", "y_train") if mnist else ("cifar10/calib.npz", "x", "y")


def _known(name: str) -> tuple[str, Callable[[Path, int | None], tuple[Array, Array, Array | None]]]:
    """Model file and data of a network that reproduce_accuracy.py knows."""
    network = NETWORKS[name]

    def load(data: Path, limit: int | None) -> tuple[Array, Array, Array | None]:
        images, labels = network.test_set(data, limit)
        file, key, _ = _stored(name)
        with np.load(data / file) as stored:
            calibration = network.normalised(stored[key][:SAMPLES])
        return images, labels, calibration

    return network.model, load


def _pictures(scale: Callable[[Array], Array], shift: int) -> Callable[..., tuple[Array, Array, Array | None]]:
    """Loader of ImageNet-like pictures, whose classes are moved by `shift`."""

    def read(folder: Path, limit: int | None) -> tuple[Array, Array]:
        from PIL import Image

        files = sorted(folder.glob("*.jpg"))[:limit]
        images = np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files]).transpose(0, 3, 1, 2)
        return scale(images.astype(np.float32)).astype(np.float32), np.array([int(f.stem[-3:]) for f in files]) + shift

    def load(data: Path, limit: int | None) -> tuple[Array, Array, Array | None]:
        images, labels = read(data / "imagenet/eval", limit)
        return images, labels, read(data / "imagenet/calib", None)[0]

    return load


def _tokens(data: Path, limit: int | None) -> tuple[Array, Array, Array | None]:
    tokens = np.load(data / "text/stories260K_selfsampled_64x256.npy")[:limit].astype(np.int64)
    return tokens[:, :-1], tokens[:, 1:], None


def _imagenet(images: Array) -> Array:
    mean, deviation = (
        np.array(v, dtype=np.float32).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    return (images / 255 - mean) / deviation


def _tasks() -> dict[str, Task]:
    inner = {"include": [r"layer.*bn1\.weight"]}
    half = {"measure": "channels", "allocation": "uniform"}
    vgg, vgg_data = _known("VGG-16")
    resnet, resnet_data = _known("ResNet-56")
    lenet, lenet_data = _known("LeNet-300-100")
    mobile = "imagenet-mobilenet_v2_1.0_224_qat_dequant_fp32.onnx"
    squeeze, shuffle = "imagenet-squeezenet_v1.0_dequant_fp32.onnx", "imagenet-shufflenet-v2-12_dequant_fp32.onnx"
    integers = "imagenet-shufflenet-v2-12-int8.onnx"
    return {
        "vgg16-uniform30": Task("VGG-16", {**half, "ratio": 0.3}, (90.0, 92.5), vgg_data, vgg),
        "vgg16-uniform50": Task("VGG-16", {**half, "ratio": 0.5}, (82.0, 90.0), vgg_data, vgg),
        "vgg16-params80": Task("VGG-16", {"ratio": 0.8}, (85.0, 92.0), vgg_data, vgg),
        "resnet56-uniform30": Task("ResNet-56", {**half, **inner, "ratio": 0.3}, (90.5, 92.5), resnet_data, resnet),
        "resnet56-uniform50": Task("ResNet-56", {**half, **inner, "ratio": 0.5}, (82.0, 90.0), resnet_data, resnet),
        "resnet56-params50": Task("ResNet-56", {"ratio": 0.5}, (84.0, 91.0), resnet_data, resnet),
        "lenet300-params80": Task("LeNet-300-100", {"ratio": 0.8}, (90.0, 97.2), lenet_data, lenet),
        "lenet300-params90": Task("LeNet-300-100", {"ratio": 0.9}, (None, 94.0), lenet_data, lenet),
        "mobilenetv2-params20": Task(
            "MobileNetV2", {"ratio": 0.2}, (60.0, 78.0), _pictures(lambda x: x / 127.5 - 1, 1), mobile
        ),
        "squeezenet-params30": Task(
            "SqueezeNet", {"ratio": 0.3}, (None, 57.6), _pictures(lambda x: x / 255 - 0.5, 1), squeeze
        ),
        "shufflenetv2-params30": Task("ShuffleNetV2", {"ratio": 0.3}, (None, 77.4), _pictures(_imagenet, 0), shuffle),
        "shufflenetv2int8-params30": Task(
            "ShuffleNetV2 of 8 bits", {"ratio": 0.3}, (None, None), _pictures(_imagenet, 0), integers
        ),
        "llama-params20": Task("stories260K", {"ratio": 0.2}, (59.8, None), _tokens, "text-stories260K_llama.onnx"),
    }


def measured(model: onnx.ModelProto, inputs: Array, labels: Array) -> float:
    """Percentage of right answers; of tokens at every position; of a network that takes one image, one by one."""
    session = session_of(model)
    shape = session.get_inputs()[0].shape
    batch = shape[0] if isinstance(shape[0], int) else BATCH
    if inputs.dtype.kind == "f" and batch > 1:
        return top1(model, inputs.reshape(len(inputs), *(s if isinstance(s, int) else -1 for s in shape[1:])), labels)
    step = batch if inputs.dtype.kind == "f" else 16
    names = [value.name for value in session.get_inputs()]
    right: list[bool] = []
    for start in range(0, len(inputs), step):
        found = session.run(None, {names[0]: inputs[start : start + step]})[0]
        right += (found.argmax(axis=-1) == labels[start : start + step]).ravel().tolist()
    return 100 * float(np.mean(right))


def request_of(
    method: str, task: Task, calibration: Array | None, seed: int, classes: Array | None = None
) -> dict[str, Any]:
    """What a row of the table asks for."""
    method, _, allocation = method.partition("@")
    name, _, more = method.partition("+")
    alone = not more and name not in ("auto", "submodular", "submodular-seq", "submodular-layer")
    request = {**task.request, "method": name, "seed": seed, "refit": "off" if alone else "on"}
    request["distill"] = "auto" if more == "distill" or method == "auto" else "off"
    if allocation:
        request["allocation"] = allocation
    if alone:
        request.setdefault("allocation", "global")
        return request
    if calibration is None:
        return request
    return {**request, "calib": calibration, **({"labels": classes} if allocation else {})}


def row(name: str, task: Task, args: argparse.Namespace) -> None:
    """Print the rows of one task."""
    path = args.data / "models" / task.model
    inputs, labels, calibration = task.data(args.data, args.limit)
    before = measured(onnx.load(path), inputs, labels)
    classes = None
    if task.network in NETWORKS:
        file, _, key = _stored(task.network)
        with np.load(args.data / file) as stored:
            classes = stored[key][:SAMPLES].astype(np.int64)
    wanted = " / ".join("–" if value is None else f"{value:g}" for value in task.wanted)
    for method in args.methods:
        cells = []
        for given in (None, calibration):
            if given is None and (cells or method.endswith("@accuracy")):
                cells.append("–")
                continue
            found, start = [], time.perf_counter()
            for seed in range(args.seeds if method in ("auto", "auto+refit", "random+refit") or given is None else 1):
                result = onnxprune.prune(path, **request_of(method, task, given, seed, classes))
                found.append(measured(result.model, inputs, labels))
                if method in ("l1", "l2", "coreset", "lowner"):
                    break
            spread = f" ± {np.std(found, ddof=1):.1f}" if len(found) > 1 else ""
            cells.append(f"{np.mean(found):.1f}{spread} ({(time.perf_counter() - start) / len(found):.0f} s)")
        print(f"| {name} | {before:.1f} | {method} | {' | '.join(cells)} | {wanted} |", flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    tasks = _tasks()
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help="(default: all)")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA")
    parser.add_argument("--methods", nargs="+", default=METHODS, metavar="M", help=f"(default: {' '.join(METHODS)})")
    parser.add_argument("--seeds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--limit", type=int, help="test samples (default: all)")
    parser.add_argument("--list", action="store_true", help="name the tasks")
    args = parser.parse_args(argv)
    if args.list:
        print("\n".join(f"{name}: {task.network}, {task.request}" for name, task in tasks.items()))
        return 0
    if unknown := set(args.tasks) - tasks.keys():
        parser.error(f"no such task: {', '.join(sorted(unknown))}; --list names them")
    print("| task | before | method | no data | data | wanted |")
    print("|---|---|---|---|---|---|")
    for name in args.tasks or tasks:
        row(name, tasks[name], args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
