"""What `inspect` calls the groups of well-known kinds of networks."""

from collections.abc import Callable

import pytest
from net import Net
from onnx import ModelProto

import onnxprune


def mlp(net: Net, x: str) -> str:
    return net.dense(net.add("Relu", net.dense(x, 6, 8)), 8, 6)


def gated(net: Net, x: str) -> str:
    """SwiGLU: two layers write the same hidden units, and nothing is added."""
    gate, up = net.dense(x, 6, 8), net.dense(x, 6, 8)
    return net.dense(net.add("Mul", net.add("Mul", gate, net.add("Sigmoid", gate)), up), 8, 6)


def stream(net: Net, x: str) -> str:
    first = net.dense(x, 8, 8)
    second = net.add("Add", first, mlp(net, first))
    return net.dense(second, 2, 8)


def attention(net: Net, x: str) -> str:
    """Four heads of two positions each."""
    query, key, value = (
        net.add(
            "Transpose",
            net.add("Reshape", net.dense(x, 8, 8), net.constant([0, 5, 4, 2])),
            perm=[0, 2, 3, 1] if turned else [0, 2, 1, 3],
        )
        for turned in (False, True, False)
    )
    scores = net.add("Softmax", net.add("MatMul", query, key), axis=-1)
    mixed = net.add("Transpose", net.add("MatMul", scores, value), perm=[0, 2, 1, 3])
    return net.dense(net.add("Reshape", mixed, net.constant([0, 5, -1])), 8, 8)


def picture(net: Net, x: str) -> str:
    """A convolution whose channels another one shuffles in two groups, and a pair of convolutions without."""
    seen = net.add("Unsqueeze", x, net.constant([1]))
    first = net.conv(seen, 4, 1)
    return net.add("Squeeze", net.conv(net.add("Relu", first), 1, 4), net.constant([1]))


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        (mlp, {"hidden units"}),
        (gated, {"hidden units"}),
        (stream, {"hidden units", "residual stream"}),
        (attention, {"attention heads"}),
        (picture, {"channels"}),
    ],
)
def test_groups_have_the_names_that_people_give_them(body: Callable[[Net, str], str], kinds: set[str]) -> None:
    net = Net()
    model: ModelProto = net.done(body(net, net.input("n", 5, 8)))
    assert {group["kind"] for group in onnxprune.inspect(model)["groups"]} == kinds
