"""torchvision's classifiers, segmentation networks, and the bodies and heads of its detectors."""

from __future__ import annotations

from typing import Any

import torch
import zoo
from torch import nn
from torchvision import models
from zoo_names import DETECTION, SEGMENTATION

# No auxiliary heads, and no slow initialisation, since the zoo draws the weights itself.
_OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
    **{f"vgg{depth}{bn}": {"init_weights": False} for depth in (11, 13, 16, 19) for bn in ("", "_bn")},
}
_SIZES = {"inception_v3": 299, "ssd300_vgg16": 300}
_WINDOW = 224
_PICTURE = 128
_CLASSES = 1000


class _Segments(nn.Module):
    """A segmentation network that returns the map of scores alone."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.network(image)["out"]
        return scores


class _Heads(nn.Module):
    """What of a detector comes before anchors and boxes: the body, and heads on every scale."""

    def __init__(self, body: nn.Module, heads: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.heads = heads

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(zoo.tensors(self.heads(list(self.body(image).values()))))


def _detector(name: str) -> zoo.Network:
    model = models.get_model(name, weights=None, weights_backbone=None)
    heads = model.rpn.head if hasattr(model, "rpn") else model.head
    last = ("cls_logits", "bbox_pred", "bbox_reg", "bbox_ctrness")
    layers = [module for key, module in heads.named_modules() if key.rpartition(".")[2] in last]
    if not layers:
        layers = [list(module.modules())[-1] for part in heads.children() for module in part.module_list]
    size = _SIZES.get(name, 256)
    return zoo.Network(_Heads(model.backbone, heads), zoo.images(size), zoo.ANY_BATCH, tuple(layers))


def build(name: str) -> zoo.Network:
    """Build one of torchvision's networks."""
    if name in DETECTION:
        return _detector(name)
    if name in SEGMENTATION:
        network = models.get_model(name, weights=None, weights_backbone=None)
        return zoo.Network(_Segments(network), zoo.images(_PICTURE), zoo.ANY_BATCH)
    network = models.get_model(name, weights=None, **_OPTIONS.get(name, {}))
    return zoo.Network(network, zoo.images(_SIZES.get(name, _WINDOW)), zoo.ANY_BATCH, (_classifier(network),))


def _classifier(network: nn.Module) -> nn.Module:
    """Return the layer that gives the class scores."""
    kinds = ((nn.Linear, "out_features"), (nn.Conv2d, "out_channels"))
    found = [
        m for m in network.modules() for kind, width in kinds if isinstance(m, kind) and getattr(m, width) == _CLASSES
    ]
    return found[-1]
