"""What follows a writer is read from the graph as it is: operator, parameters, and what they do to scores."""

from collections.abc import Callable

import numpy as np
import pytest
from net import Net
from onnx import ModelProto

from onnxprune.analysis import analyse
from onnxprune.coreset.activations import activation_named
from onnxprune.coupling.channels import ChannelReader
from onnxprune.graph import io
from onnxprune.methods import METHODS, Channels


def network(activate: Callable[[Net, str], str], *, opset: int = 17) -> ModelProto:
    """8 → 6 → 4 features with an activation between, its inputs of many sizes."""
    net = Net(opset)
    x = net.input(3, 8)
    return net.done(net.gemm(activate(net, net.gemm(x, 6, 8)), 4, 6))


def channels_of(proto: ModelProto) -> Channels:
    analysis = analyse(io.from_proto(proto))
    weights = analysis.index.weights
    reader = ChannelReader(analysis.coupling, analysis.index, lambda name: analysis.model.array(weights[name]))
    (group,) = analysis.coupling.groups
    return reader.channels(group)


def clip(low: float | None, high: float | None) -> Callable[[Net, str], str]:
    def add(net: Net, x: str) -> str:
        ends = ["" if end is None else net.constant(end, np.float32) for end in (low, high)]
        return net.add("Clip", x, *ends)

    return add


CASES: list[tuple[Callable[[Net, str], str], str, tuple[float, ...], bool]] = [
    (lambda net, x: net.add("Relu", x), "Relu", (), True),
    (clip(0.0, 6.0), "Clip", (0.0, 6.0), True),
    (clip(-1.0, 1.0), "Clip", (-1.0, 1.0), False),
    (clip(None, 0.5), "Clip", (-np.inf, 0.5), False),
    (clip(0.25, None), "Clip", (0.25, np.inf), True),
    (lambda net, x: net.add("LeakyRelu", x, alpha=0.5), "LeakyRelu", (0.5,), False),
    (lambda net, x: net.add("LeakyRelu", x), "LeakyRelu", (0.01,), False),
    (lambda net, x: net.add("Elu", x, alpha=2.0), "Elu", (2.0,), False),
    (lambda net, x: net.add("HardSigmoid", x, alpha=0.25), "HardSigmoid", (0.25, 0.5), True),
    (lambda net, x: net.add("Sigmoid", x), "Sigmoid", (), True),
    (lambda net, x: net.add("ThresholdedRelu", x, alpha=0.125), "ThresholdedRelu", (0.125,), True),
    (
        lambda net, x: net.add("PRelu", x, net.constant([0.1, -1.5, 0.2, 0.3, 0.4, 0.5], np.float32)),
        "PRelu",
        (-1.5,),
        False,
    ),
    (lambda net, x: x, "", (), False),
]


@pytest.mark.parametrize(("activate", "name", "parameters", "guaranteed"), CASES)
def test_operator_and_parameters(
    activate: Callable[[Net, str], str], name: str, parameters: tuple[float, ...], guaranteed: bool
) -> None:
    found = channels_of(network(activate))
    assert found.activation == name
    np.testing.assert_allclose(found.parameters, parameters, rtol=1e-6)
    assert activation_named(found.activation, found.parameters).guaranteed == guaranteed


def test_limits_are_attributes_in_early_opsets() -> None:
    found = channels_of(network(lambda net, x: net.add("Clip", x, min=-0.5, max=0.5), opset=9))
    assert (found.activation, found.parameters) == ("Clip", (-0.5, 0.5))


def test_a_limit_that_is_computed_is_taken_to_be_none() -> None:
    def computed(net: Net, x: str) -> str:
        return net.add("Clip", x, net.constant(0.0, np.float32), net.input())

    found = channels_of(network(computed))
    assert (found.activation, found.parameters) == ("Clip", (0.0, np.inf))


def test_scores_use_the_parameters() -> None:
    """A low ceiling makes long rows alike, which the customary one of 6 would not."""
    wide, low = (channels_of(network(clip(0.0, high))) for high in (1e6, 1e-3))
    rng = np.random.default_rng(0)
    scores = [METHODS["coreset"](channels, rng).scores for channels in (wide, low)]
    largest = np.abs(low.outgoing[0][:, :, 0]).max(axis=1)
    np.testing.assert_allclose(scores[1], largest / largest.sum(), rtol=1e-6)
    assert not np.allclose(scores[0], scores[1], rtol=1e-2)
