#!/usr/bin/env python3
"""Prune networks of the zoo with Torch-Pruning and print, as JSON, what share it removes and how long each step takes.

    python tools/torch_pruning_share.py resnet50 densenet121

Half the channels of every layer but those that write the outputs by default; it is told how many heads attention has,
where a module says so. Whether the pruned network still runs, with outputs of the same sizes, is said too. Needs torch,
torch_pruning and the library that a network comes from.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

START = time.perf_counter()

import torch  # noqa: E402  the time of the imports is measured
import torch_pruning  # noqa: E402
import zoo  # noqa: E402
import zoo_export  # noqa: E402
from torch import nn  # noqa: E402
from zoo_names import README  # noqa: E402

IMPORTED = time.perf_counter()
_PROJECTIONS = (
    "qkv",
    "q",
    "k",
    "v",
    "kv",
    "query",
    "key",
    "value",
    "q_proj",
    "k_proj",
    "v_proj",
    "q_lin",
    "k_lin",
    "v_lin",
)
_KEYS = frozenset({"k", "v", "kv", "k_proj", "v_proj"})
_HEADS = ("num_heads", "num_attention_heads", "n_heads")


def _width(module: nn.Module) -> int | None:
    return getattr(module, "out_features", getattr(module, "out_channels", None))


def _sample(network: zoo.Network) -> tuple[torch.Tensor, ...]:
    """Return one sample of every input."""
    return tuple(value[:1] for value in network.inputs.values())


def _run(network: zoo.Network) -> list[torch.Tensor]:
    with torch.no_grad():
        return list(zoo.tensors(network.model(*_sample(network))))


def classifiers(network: zoo.Network) -> list[nn.Module]:
    """Return the layers that write the outputs: for each output, the last to run that is as wide as one of its axes."""
    if network.heads:
        return list(network.heads)
    ran: list[nn.Module] = []
    layers = [module for module in network.model.modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)]
    hooks = [layer.register_forward_hook(lambda module, *_: ran.append(module)) for layer in layers]
    outputs = _run(network)
    for hook in hooks:
        hook.remove()
    found = (next((each for each in reversed(ran) if _width(each) in value.shape[1:]), None) for value in outputs)
    return [layer for layer in found if layer is not None]


def _attention(model: nn.Module) -> Iterator[tuple[nn.Module, str, int]]:
    """Return modules with attention heads, the name of each projection into heads, and how many heads it has."""
    for module in model.modules():
        heads = next((getattr(module, name) for name in _HEADS if isinstance(getattr(module, name, None), int)), None)
        config = getattr(module, "config", None)
        heads = heads or (getattr(config, "num_attention_heads", None) if hasattr(module, "q_proj") else None)
        for name in _PROJECTIONS:
            if heads and isinstance(getattr(module, name, None), nn.Linear):
                fewer = getattr(config, "num_key_value_heads", None) if name in _KEYS else None
                yield module, name, fewer or heads


def _resize_heads(model: nn.Module) -> None:
    """Tell modules how wide they and their heads have become; Torch-Pruning leaves that to its user."""
    if hasattr(model, "hidden_dim") and hasattr(model, "conv_proj"):
        model.hidden_dim = model.conv_proj.out_channels
    for module, name, heads in _attention(model):
        width = _width(getattr(module, name)) or 0
        width //= heads * {"qkv": 3, "kv": 2}.get(name, 1)
        for attribute in ("head_dim", "attention_head_size"):
            if isinstance(getattr(module, attribute, None), int):
                setattr(module, attribute, width)
        for attribute in ("all_head_size", "attn_dim"):
            if isinstance(getattr(module, attribute, None), int):
                setattr(module, attribute, width * heads)


def parameters(model: nn.Module) -> int:
    """Count the parameters of a network."""
    return sum(parameter.numel() for parameter in model.parameters())


def share(name: str, ratio: float, path: Path | None = None) -> dict[str, Any]:
    """Prune one network; with a path, export it too."""
    seconds = {"import": IMPORTED - START}
    clock = time.perf_counter()

    def lap(step: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[step], clock = now - clock, now

    network = zoo.build(name)
    model, before = network.model, parameters(network.model)
    lap("build")
    ignored = classifiers(network)
    pruner = torch_pruning.pruner.BasePruner(
        model,
        _sample(network),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        global_pruning=False,
        pruning_ratio=ratio,
        ignored_layers=ignored,
        num_heads={getattr(module, key): heads for module, key, heads in _attention(model)},
    )
    lap("trace")
    pruner.step()
    after = parameters(model)
    lap("prune")
    if path is not None:
        zoo_export.export(network, path, "ts")
        lap("export")
    return {
        "params_before": before,
        "params_after": after,
        "removed": 1 - after / before,
        "runs": _runs(name, network) if path is None else "not tried",
        "seconds": seconds,
    }


def _runs(name: str, network: zoo.Network) -> str:
    """Return "yes" where the pruned network runs, with outputs of the same sizes, else what is wrong with it."""
    _resize_heads(network.model)
    try:
        sizes = [value.shape for value in _run(network)]
    except Exception as error:  # noqa: BLE001  whatever it is, the network does not run
        return f"{type(error).__name__}: {error}"[:200]
    return "yes" if sizes == [value.shape for value in _run(zoo.build(name))] else "outputs have other sizes"


def main(argv: Sequence[str] | None = None) -> None:
    """Print one JSON object: what happened to each network, or why Torch-Pruning failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"networks (default: {' '.join(README)})")
    parser.add_argument(
        "--ratio", type=float, default=0.5, help="share of the channels to remove (default: %(default)s)"
    )
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="export the pruned networks too")
    args = parser.parse_args(argv)
    found: dict[str, Any] = {"_version": metadata.version("torch-pruning")}
    for name in args.names or README:
        path = None if args.export is None else args.export / f"{name}.onnx"
        try:
            with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found[name] = share(name, args.ratio, path)
        except Exception as error:  # noqa: BLE001  one network that it cannot prune must not end the run
            found[name] = {"error": f"{type(error).__name__}: {error}"[:400]}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
