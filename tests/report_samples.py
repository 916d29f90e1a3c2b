"""Reports as onnxprune writes them, made up: small and huge, with all there is and with hardly anything."""

import base64
import struct
import zlib
from typing import Any

import numpy as np

__all__ = ["comparison", "family", "huge_comparison", "inspected", "picture", "pruned", "zeroed"]

VERSIONS = {"python": "3.11.7", "onnxprune": "0.1.0"}


def picture(rng: np.random.Generator, size: int = 32) -> str:
    """The base64 of a PNG of noise."""
    rows = rng.integers(0, 256, (size, size * 3), dtype=np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    return base64.b64encode(data).decode()


def _place(path: str, params: int, macs: int, channels: int) -> dict[str, Any]:
    digest = f"{zlib.crc32(path.encode()):08x}" * 8
    return {
        "path": path,
        "sha256": digest,
        "bytes": 4 * params + 912,
        "params": params,
        "macs": macs,
        "channels": channels,
    }


def _certificate(rng: np.random.Generator, number: int) -> dict[str, Any]:
    """One of three kinds: bounds with a promise, weights solved anew, and nothing that could be measured."""
    error = float(np.exp(rng.normal(2, 1)))
    measured = {
        "relative_l2": 0.01 * error,
        "max_abs": error / 20,
        "readers": 1,
        "inputs": 8,
        "beta": 3.0,
        "renewed": None,
    }
    if number % 3 == 1:
        renewed = {"relative_l2": 0.005 * error, "max_abs": error / 40}
        missed = [0.0001 * error**2, 0.00003 * error**2]
        return {"none": "weights solved anew on data", "missed": missed, "measured": {**measured, "renewed": renewed}}
    if number % 3 == 2:
        return {"none": "no layer", "measured": {"none": "the network is big: --certify measures it"}}
    promise = {"epsilon": error / 3, "vacuous": False, "signs": "split"}
    return {
        "none": "",
        "activation": "Relu",
        "covered": True,
        "beta": 3.0,
        "beta_from": "the inputs measured on",
        "error": error,
        "whole": 4 * error,
        "promise": promise,
        "relative": None,
        "vacuous": False,
        "measured": measured,
    }


def pruned(groups: int, *, prefix: str = "/stages/blocks", searched: bool = True) -> dict[str, Any]:
    """A prune of a network of so many groups."""
    rng = np.random.default_rng(groups)
    channels = 16 * 2 ** (np.arange(groups) * 5 // max(groups, 1))
    kept = np.maximum(1, channels * rng.uniform(0.3, 1, groups)).astype(int)
    names = [f"{prefix}.{number}/conv/Conv" for number in range(groups)]
    before = _place("/nets/original.onnx", int(channels.sum()) * 977, int(channels.sum()) * 98_777, int(channels.sum()))
    after = _place("/nets/smaller.onnx", int(kept.sum()) * 977, int(kept.sum()) * 98_777, int(kept.sum()))
    purposes = ("graph input", "graph output", "reshape")
    return {
        "input": before,
        "output": after,
        "achieved": {name: 1 - after[name] / before[name] for name in ("params", "macs", "channels")},
        "groups": [
            {
                "name": name,
                "kind": "channels",
                "normalized": False,
                "channels": int(channels[number]),
                "step": 1,
                "params": int(channels[number]) * 977,
                "macs": int(channels[number]) * 98_777,
                "nodes": [f"{prefix}.{number}/{kind}" for kind in ("conv", "norm", "act", "next", "after", "last")],
                "kept": int(kept[number]),
                "notes": ["drawn by chance"] if number == 0 else [],
                "certificate": _certificate(rng, number),
            }
            for number, name in enumerate(names)
        ],
        "pinned": [
            {"site": name, "reason": f"{purpose}: {name}", "purpose": purpose, "channels": 3, "params": 432 + number}
            for number, (name, purpose) in enumerate(zip(names, purposes * groups, strict=False))
        ],
        "no_rule": {"/odd": "Odd"},
        "assumed_shapes": {"input": [1, 3, 32, 32]},
        "made_plain": {"functions": 1, "branches": 0, "weights": 0, "dropped": 0},
        "end_to_end": {"none": "", "norm": 3.0, "error": 9.5, "whole": 20.25, "vacuous": False, "output_norm": 6.5},
        "validation": {
            "provider": "CPUExecutionProvider",
            "inputs": 2,
            "twin": {"passed": True, "relative_l2": 3e-7, "tolerance": 1e-5, "compared": groups, "worst": names[-1]},
            "fidelity": {
                "logits": {"relative_l2": 0.3184, "cosine": 0.9479, "top1_agreement": 0.8386},
                "boxes": {"relative_l2": float("inf"), "cosine": float("nan"), "top1_agreement": None},
            },
            "accuracy": {
                "output": "logits",
                "samples": 1366,
                "before": 0.9338,
                "after": 0.9171,
                "drop": 0.0167,
                "standard_error": 0.0026,
            },
            "unproved": [],
            "widened": False,
            "unrounded": False,
        },
        "versions": VERSIONS,
        "request": {
            "ratio": 0.5,
            "max_drop": 2.0,
            "measure": "params",
            "method": "auto",
            "certify": True,
            "include": [],
        },
        "data": {"origin": "given", "samples": 1024, "held_out": 1366, "notes": ["pictures are fed as they are"]},
        "refit": {
            f"{name} (Conv)": {
                "missed": float(np.exp(rng.normal(-7, 1))),
                "missed_before": float(np.exp(rng.normal(-4, 1))),
                "rows": 7168,
                "relative_error": 0.0167,
            }
            for name in names
        },
        "search": [
            {"ratio": ratio, "removed": ratio - 0.003, "before": 0.9338, "after": 0.9338 - ratio**3, "drop": ratio**3}
            for ratio in ((0.15, 0.3, 0.22, 0.26) if searched else ())
        ],
        "time": {"load": 0.05, "score": 24.48},
    }


def inspected(groups: int) -> dict[str, Any]:
    """What could be removed from such a network."""
    facts = pruned(groups)
    for group in facts["groups"]:
        for name in ("kept", "notes", "certificate"):
            group.pop(name)
    own = ("input", "groups", "pinned", "no_rule", "assumed_shapes", "made_plain", "versions")
    return {name: facts[name] for name in own} | {"reachable": {"params": 0.991, "macs": 0.982, "channels": 0.973}}


def zeroed(layers: int) -> dict[str, Any]:
    """Single weights that were zeroed."""
    facts = pruned(layers)
    every = [
        {"weight": f"w.{n}", "node": f"/conv.{n} (Conv)", "shape": [16, 16, 3, 3], "elements": 2304, "kept": 230 + n}
        for n in range(layers)
    ]
    kept, elements = (sum(layer[name] for layer in every) for name in ("kept", "elements"))
    found = {"method": "synflow", "elements": elements, "kept": kept, "density": kept / elements, "layers": every}
    own = ("input", "output", "validation", "data", "time", "versions")
    request = {"ratio": 0.9, "sparse": True, "method": "auto"}
    return {name: facts[name] for name in own} | {"sparse": {**found, "idle": ["w.0"]}, "request": request}


def _latency(ms: float) -> dict[str, Any]:
    return {
        "median_ms": ms,
        "low_ms": 0.9 * ms,
        "high_ms": 1.4 * ms,
        "runs": 100,
        "batch": 1,
        "provider": "CPUExecutionProvider",
    }


def _network(name: str, size: float, macs: int | None = 125_485_696) -> dict[str, Any]:
    place = _place(f"/nets/{name}.onnx", round(857_084 * size), round((macs or 0) * size), 100)
    place.pop("channels")
    return {"name": name, **place, "macs": None if macs is None else place["macs"], "latency": _latency(4 * size)}


def comparison(
    ratios: tuple[float, ...] = (0.3, 0.5, 0.7), *, pictures: int = 3, side: int = 32, kinds: int = 4
) -> dict[str, Any]:
    """A comparison with everything in it."""
    rng = np.random.default_rng(7)
    networks = []
    for ratio in ratios:
        flipped = [
            {
                "sample": number,
                "before": int(rng.integers(10)),
                "after": int(rng.integers(10)),
                "confidence": [float(rng.uniform(0.5, 1)), float(rng.uniform(0.3, 0.9))],
                "label": None if number % 2 else 3,
                "thumbnail": picture(rng, side) if number < pictures else None,
            }
            for number in range(max(pictures, 5))
        ]
        figures = {
            "kind": "classes",
            "relative_l2": ratio / 2,
            "cosine": 1 - ratio / 8,
            "max_abs": 12.5 * ratio,
            "psnr": None,
            "agreement": 1 - ratio**3,
            "softmax_distance": ratio / 3,
            "kl": ratio / 4,
            "top1": [0.9338, 0.9338 - ratio**3],
            "top5": [0.99, 0.98],
            "calibration_error": [0.01, 0.05],
            "perplexity": None,
            "worst_classes": [{"class": 3, "samples": 50, "before": 0.9, "after": 0.9 - ratio / 2}],
            "flipped": flipped,
            "flips": 40,
        }
        entry = _network(f"smaller-{ratio:g}", 1 - ratio)
        networks.append(
            {**entry, "removed": ratio, "outputs": {"logits": figures}, "skipped": {"boxes": "of shape [3]"}}
        )
    severities = list(range(1, 6))
    levels = [round(0.05 * step, 3) for step in range(15)]

    def noisy(ratio: float) -> dict[str, Any]:
        agreement = [max(0.1, 1 - level * (0.5 + ratio)) for level in levels]
        return {"agreement": agreement, "distance": [1.4 * (1 - value) for value in agreement]}

    points = [[ratio, 0.05 * ratio + float(rng.normal(0, 0.01))] for ratio in ratios for _ in range(20)]
    return {
        "kind": "compare",
        "original": _network("original", 1.0),
        "networks": networks,
        "data": {"origin": "given", "samples": 1000, "labelled": True, "notes": ["all 1000 samples are used"]},
        "corruptions": {
            "severities": severities,
            "kinds": {
                f"corruption_{kind}": {
                    "original": [0.93 - 0.02 * kind % 0.1 * severity for severity in severities],
                    "networks": [[0.93 - 0.1 * ratio - 0.03 * severity for severity in severities] for ratio in ratios],
                }
                for kind in range(kinds)
            },
        },
        "noise": {
            "levels": levels,
            "inputs": 200,
            "draws": 10,
            "networks": [noisy(ratio) for ratio in ratios],
            "control": noisy(1.5),
        },
        "potential": {
            "delta": 0.5,
            "distributions": {
                "clean": {
                    "original_error": 0.066,
                    "errors": [0.07 * (1 + ratio) for ratio in ratios],
                    "potential": 0.5,
                },
                "fog/3": {"original_error": 0.2, "errors": [0.3 for _ in ratios], "potential": None},
            },
        },
        "excess": {"points": points, "slope": 0.05, "low": 0.04, "high": 0.06},
        "features": {
            "fraction": 0.1,
            "confidence": {"original": {"own": 0.9, "other": 0.5}, "smaller": {"own": 0.8, "other": 0.4}},
            "maps": [
                {
                    "sample": 7,
                    "input": picture(rng),
                    "networks": {name: {"class": 3, "heat": picture(rng)} for name in ("original", "smaller")},
                }
            ],
        },
        "request": {"data": "/data/test.npz", "noise": True, "fail_if": ["agreement<0.5"]},
        "time": {"load": 0.05, "compare": 24.48},
        "versions": VERSIONS,
    }


def huge_comparison() -> dict[str, Any]:
    """Nine networks, nineteen corruptions, and more pictures than a page has room for."""
    return comparison(tuple(np.linspace(0.1, 0.9, 9).round(2).tolist()), pictures=24, side=64, kinds=19)


def family(members: int = 3) -> dict[str, Any]:
    """A family of so many."""
    ratios = np.linspace(0.2, 0.8, members).tolist()
    accuracy = {"output": "logits", "samples": 1366, "before": 0.9338, "standard_error": 0.002}
    return {
        "kind": "family",
        "original": _network("original", 1.0) | {"channels": 1072},
        "members": [
            {
                **_network(f"original-{ratio:.2g}", 1 - ratio),
                "ratio": ratio,
                "achieved": {"params": ratio - 0.002, "macs": ratio - 0.1, "channels": ratio - 0.05},
                "fidelity": {"logits": {"relative_l2": ratio / 2, "cosine": 0.98, "top1_agreement": 1 - ratio**3}},
                "accuracy": {**accuracy, "after": 0.9338 - ratio**3, "drop": ratio**3},
                "kept": {f"group.{number}": round(16 * (1 - ratio)) + number for number in range(30)},
            }
            for ratio in ratios
        ],
        "data": {"origin": "given", "samples": 1024, "held_out": 1366, "notes": []},
        "request": {"measure": "params", "ratios": ratios},
        "time": {"load": 0.02},
        "versions": VERSIONS,
    }
