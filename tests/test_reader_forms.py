"""Every linear operator as a matrix product: rows times matrix are what onnxruntime computes."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from onnxprune.graph.runtime import CPU, Session
from onnxprune.reconstruct.forms import form_of

CASES: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ("Gemm", (5, 7), (7, 3), {}),
    ("Gemm", (5, 7), (3, 7), {"transB": 1}),
    ("MatMul", (5, 7), (7, 3), {}),
    ("MatMul", (2, 4, 7), (7, 3), {}),
    ("MatMul", (2, 3, 4, 7), (7, 3), {}),
    ("MatMul", (1, 4, 1, 7), (7, 1), {}),
]
for group, weight in ((1, (6, 4)), (2, (6, 2))):
    own: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
        ("Conv", (2, 4, 9, 8), (*weight, 3, 3), {"pads": [1, 1, 1, 1]}),
        ("Conv", (2, 4, 9, 8), (*weight, 3, 2), {"pads": [1, 0, 0, 2], "strides": [2, 1], "dilations": [2, 1]}),
        ("Conv", (2, 4, 9, 8), (*weight, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
        ("Conv", (2, 4, 9, 8), (*weight, 2, 3), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
        ("Conv", (2, 4, 9, 8), (*weight, 2, 3), {"auto_pad": "VALID"}),
        ("Conv", (2, 4, 2, 2), (*weight, 1, 1), {"auto_pad": "SAME_UPPER", "strides": [3, 3]}),
        ("Conv", (2, 4, 9), (*weight, 3), {"pads": [2, 1]}),
        ("Conv", (2, 4, 5, 6, 7), (*weight, 3, 1, 2), {"strides": [1, 2, 3], "pads": [0, 1, 2, 1, 0, 1]}),
        ("ConvTranspose", (2, 4, 5, 6), (4, 6, 3, 3), {"strides": [2, 2], "output_padding": [1, 1], "pads": [1] * 4}),
        ("ConvTranspose", (2, 4, 5, 6), (4, 6, 4, 3), {"strides": [2, 3], "pads": [1, 0, 0, 1], "dilations": [1, 2]}),
        ("ConvTranspose", (2, 4, 5), (4, 6, 3), {"strides": [2], "auto_pad": "SAME_UPPER"}),
        ("ConvTranspose", (2, 4, 5), (4, 6, 3), {"strides": [2], "auto_pad": "SAME_LOWER"}),
        ("ConvTranspose", (2, 4, 5, 6), (4, 6, 3, 3), {"strides": [2, 2], "output_shape": [10, 12]}),
        ("ConvTranspose", (2, 4, 3, 3, 2), (4, 6, 2, 2, 2), {"strides": [2, 1, 2]}),
    ]
    CASES += [
        (name, x, w if name == "Conv" else (4, 6 // group, *w[2:]), {**more, "group": group})
        for name, x, w, more in own
    ]


@pytest.mark.parametrize(("operator", "source", "weight", "attributes"), CASES, ids=str)
def test_rows_times_matrix_are_the_result(
    operator: str, source: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in (source, weight))
    node = helper.make_node(operator, ["x", "w"], ["y"], **attributes)
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, source)
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", [value], [result], [numpy_helper.from_array(w, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    y = Session(model.SerializeToString(), (CPU,)).run({"x": x})["y"]
    # Sizes may differ from batch to batch: nothing but ranks is known beforehand.
    form = form_of(node, weight, (1, source[1], *[1] * (len(source) - 2)) if operator.startswith("Conv") else source)
    assert form is not None
    matrix = form.matrix(w)
    assert np.array_equal(form.weight(matrix), w)
    count = form.positions(y.shape)
    chosen = np.sort(rng.choice(count, max(1, count // 2), replace=False)) if count else None
    for places in (None, chosen):
        rows, targets = form.rows(x, y.shape, places), form.targets(y, places)
        assert rows.shape[::2] == matrix.shape[:2] and rows.shape[2] % form.offsets == 0
        np.testing.assert_allclose(rows @ matrix, targets, atol=2e-5)
    every = form.targets(y, None).reshape(form.groups, source[0], -1, matrix.shape[2])
    if chosen is not None:
        own = form.targets(y, chosen).reshape(form.groups, source[0], -1, matrix.shape[2])
        assert np.array_equal(own, every[:, :, chosen])


@pytest.mark.parametrize(("operator", "source", "weight", "attributes"), [
    ("Gemm", (7, 5), (7, 3), {"transA": 1}),
    ("Gemm", (5, 7), (7, 3), {"alpha": 0.5}),
    ("Gemm", (5, 7), (7, 3), {"beta": 2.0}),
    ("MatMul", (2, 5, 7), (2, 7, 3), {}),
    ("MatMul", (7,), (7, 3), {}),
    ("Conv", (2, 4, 9, 8), (4, 1, 3, 3), {"group": 4}),
    ("Relu", (2, 4), (4, 4), {}),
])  # fmt: skip
def test_what_is_no_sum_over_channels_is_left_alone(
    operator: str, source: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, Any]
) -> None:
    assert form_of(helper.make_node(operator, ["x", "w"], ["y"], **attributes), weight, source) is None


def test_an_operator_of_another_domain_is_left_alone() -> None:
    assert form_of(helper.make_node("Gemm", ["x", "w"], ["y"], domain="own"), (3, 2), (1, 3)) is None
