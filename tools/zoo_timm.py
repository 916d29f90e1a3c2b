"""timm's families, one small network each."""

from __future__ import annotations

import timm
import zoo

# Networks that take any size are run on small pictures, but for those whose windows need more.
_SMALL = 128
_SIZES = {"inception_v4": 192, "inception_resnet_v2": 192, "nasnetalarge": 192, "pnasnet5large": 192}


def build(name: str) -> zoo.Network:
    """Build one of timm's networks."""
    own = name.removeprefix("timm_")
    model = timm.create_model(own, pretrained=False)
    config = model.default_cfg
    default = config.get("input_size", (3, 224, 224))[1]
    size = _SIZES.get(own, default if config.get("fixed_input_size") else min(default, _SMALL))
    return zoo.Network(model, zoo.images(size), zoo.ANY_BATCH)
