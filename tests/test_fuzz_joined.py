"""Every rule beside every other: cases of operators joined end to end at random, and pruned by any plan."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joined import PARTS, draw
from oracle import assert_sound

from onnxprune.ops.trace import Opened

TOLERANCE = 1e-2
"""Joined networks divide by activations and decide attentions sharply: both make much of rounding. A broken rule shows
at 0.1."""


def check(seed: int) -> None:
    rng = np.random.default_rng(seed)
    proto = draw(rng, PARTS[seed % len(PARTS)])
    opened = Opened(normalized=bool(rng.random() < 0.3), inside_heads=bool(rng.random() < 0.3))
    share = float(rng.choice([0.3, 0.6]))
    assert_sound(proto, rng, shares=(share,), powerful=False, tolerance=TOLERANCE, opened=opened)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 20))
def test_joined_networks_are_sound(seed: int) -> None:
    check(seed)
