#!/usr/bin/env python3
"""Export networks with seeded random weights to ONNX, as test networks for onnxprune.

    python tools/zoo_export.py FOLDER resnet18 timm_vit_tiny_patch16_224 hf_bert --exporter both

Needs torch, onnxscript and the library that a network comes from. Files are named NAME.ts.onnx (TorchScript exporter)
and NAME.dynamo.onnx (torch.export). Both fold BatchNormalization into the convolution before it; NAME.bn.onnx keeps it.
--zero-bias adds `.zero`. Every file is compared with its network.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import zoo
from zoo_names import README

EXPORTERS = {"ts": ("ts",), "dynamo": ("dynamo",), "both": ("ts", "dynamo"), "bn": ("bn",)}
OPSET = 17
TOLERANCE = 1e-3


def export(network: zoo.Network, path: Path, kind: str) -> None:
    """Write a network with one of the exporters; the file appears once it is whole."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        written = Path(folder, path.name)
        if kind == "dynamo":
            _export_dynamo(network, written)
        else:
            _export_torchscript(network, written, keep_batchnorm=kind == "bn")
        if len(list(Path(folder).iterdir())) > 1:
            model = onnx.load(written)
            for file in Path(folder).iterdir():
                file.unlink()
            data = f"{path.name}.data"
            onnx.save(model, written, save_as_external_data=True, location=data, all_tensors_to_one_file=True)
            written.with_name(data).rename(path.with_name(data))
        written.rename(path)


def _export_torchscript(network: zoo.Network, path: Path, *, keep_batchnorm: bool) -> None:
    options: dict[str, Any] = {}
    if keep_batchnorm:
        options = {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
    outputs = _output_names(network)
    torch.onnx.export(
        network.model,
        tuple(network.inputs.values()),
        str(path),
        dynamo=False,
        opset_version=OPSET,
        input_names=list(network.inputs),
        output_names=outputs,
        dynamic_axes={**network.symbolic, **{name: {0: "batch"} for name in outputs}},
        **options,
    )


def _export_dynamo(network: zoo.Network, path: Path) -> None:
    options: dict[str, Any] = {"input_names": list(network.inputs), "output_names": _output_names(network)}
    large = sum(parameter.numel() for parameter in network.model.parameters()) > 500_000_000
    dims = {name: torch.export.Dim(name) for axes in network.symbolic.values() for name in axes.values()}
    shapes = tuple(
        {axis: dims[name] for axis, name in network.symbolic.get(key, {}).items()} or None for key in network.inputs
    )
    inputs = tuple(network.inputs.values())
    for dynamic in (shapes, None):
        try:
            torch.onnx.export(
                network.model,
                inputs,
                str(path),
                dynamo=True,
                external_data=large,
                verbose=False,
                dynamic_shapes=dynamic,
                **options,
            )
            return
        except Exception:
            if dynamic is None:
                raise


def _output_names(network: zoo.Network) -> list[str]:
    with torch.no_grad():
        found = list(zoo.tensors(network.model(*network.inputs.values())))
    return ["output"] if len(found) == 1 else [f"output{number}" for number in range(len(found))]


def difference(network: zoo.Network, path: Path) -> float:
    """Return the largest difference of onnxruntime's outputs from torch's, relative to the largest output."""
    with torch.no_grad():
        expected = [value.numpy() for value in zoo.tensors(network.model(*network.inputs.values()))]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feeds = {key: value.numpy() for key, value in network.inputs.items()}
    actual = session.run(None, {each.name: feeds[each.name] for each in session.get_inputs()})
    return max(
        float(np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-30))
        for found, wanted in zip(actual, expected, strict=True)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Export the networks named on the command line, and compare each file with its network."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder to write to")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"networks (default: {' '.join(README)})")
    parser.add_argument("--exporter", choices=EXPORTERS, default="both", help="(default: %(default)s)")
    parser.add_argument("--zero-bias", action="store_true", help="zero all biases; keep normalisations as they start")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (default: %(default)s)")
    args = parser.parse_args(argv)
    args.folder.mkdir(parents=True, exist_ok=True)
    failures = 0
    for name in args.names or README:
        network = zoo.build(name, args.seed, args.zero_bias)
        for kind in EXPORTERS[args.exporter]:
            path = args.folder / f"{name}.{kind}{'.zero' if args.zero_bias else ''}.onnx"
            start = time.perf_counter()
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    export(network, path, kind)
                error = difference(network, path)
            except Exception as problem:  # noqa: BLE001  one failing export must not end the run
                print(f"{path.name}: {type(problem).__name__}: {problem}", flush=True)
                failures += 1
                continue
            agrees = error <= TOLERANCE
            seconds = time.perf_counter() - start
            note = "" if agrees else " (too large)"
            print(f"{path.name}: relative difference {error:.1e}{note}, {seconds:.0f} s", flush=True)
            failures += not agrees
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
