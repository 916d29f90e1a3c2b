"""Networks of one operator each, to be differentiated: every rule of the table with its cases."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CASES", "MICROSOFT", "Case"]


@dataclass(frozen=True)
class Case:
    """One node: arrays of floats are differentiated by, those of other types are stored, "" is left out.

    Where onnx's reference does not cover it, `linear` says that it is linear in each, so that onnxruntime tells slopes.
    """

    operator: str
    reads: Sequence[Any]
    attributes: dict[str, Any] = field(default_factory=dict)
    makes: int = 1
    opset: int = 18
    domain: str = ""
    stored: tuple[int, ...] = ()
    linear: bool = False

    @property
    def name(self) -> str:
        """What the case is called."""
        shapes = ",".join(
            "x".join(map(str, np.shape(each))) if not isinstance(each, str) else "-" for each in self.reads
        )
        more = ",".join(f"{key}={value}" for key, value in self.attributes.items())
        return f"{self.operator}-{self.opset}-{shapes}-{more}".replace(" ", "")


MICROSOFT = "com.microsoft"
_DRAWN = np.random.default_rng(11)


def real(*shape: int, low: float = -2.0, high: float = 2.0) -> NDArray[np.float64]:
    """Numbers that are not near one another, nor near where anything has a kink: 0, ±0.5, ±1, ±3."""
    count = int(np.prod(shape))
    steps = np.linspace(low, high, count + 2)[1:-1] + 0.013
    return _DRAWN.permutation(steps).reshape(shape)


def whole(*values: Any) -> NDArray[np.int64]:
    """Whole numbers."""
    return np.array(values[0] if len(values) == 1 else values, dtype=np.int64)


def _pointwise() -> list[Case]:
    every = "Abs Atan Asinh Celu Cos Cosh Elu Erf Exp HardSigmoid HardSwish Identity LeakyRelu Mish Neg Relu Selu"
    every += " Shrink Sigmoid Sin Sinh Softplus Softsign Tan Tanh ThresholdedRelu Dropout"
    found = [Case(name, [real(3, 4)]) for name in every.split() if name != "Tan"]
    found += [Case("Tan", [real(3, 4, low=-1.2, high=1.2)])]
    found += [Case(name, [real(3, 4, low=-0.9, high=0.9)]) for name in ("Acos", "Asin", "Atanh")]
    found += [Case(name, [real(3, 4, low=0.3, high=2.0)]) for name in ("Log", "Reciprocal", "Sqrt")]
    found += [Case("Acosh", [real(3, 4, low=1.3, high=3.0)])]
    found += [Case("HardSwish", [real(20, low=-4.0, high=4.0)]), Case("Elu", [real(9)], {"alpha": 0.7})]
    found += [Case("Celu", [real(9)], {"alpha": 0.7}), Case("Shrink", [real(9)], {"lambd": 0.7, "bias": 0.1})]
    found += [Case("LeakyRelu", [real(9)], {"alpha": 0.3}), Case("Selu", [real(9)], {"alpha": 1.1, "gamma": 1.3})]
    found += [Case("HardSigmoid", [real(9, low=-4.0, high=4.0)], {"alpha": 0.3, "beta": 0.4})]
    found += [Case("ThresholdedRelu", [real(9)], {"alpha": 0.6}), Case("CastLike", [real(5), real(2)], stored=(1,))]
    found += [Case("Gelu", [real(3, 4)], opset=20), Case("Gelu", [real(9)], {"approximate": "tanh"}, opset=20)]
    found += [Case("Swish", [real(9)], opset=24), Case("Swish", [real(9)], {"alpha": 1.4}, opset=24)]
    found += [Case("Cast", [real(3, 4)], {"to": 1})]
    found += [Case(name, [real(3, 4)], domain=MICROSOFT) for name in ("Gelu", "FastGelu")]
    found += [Case("FastGelu", [real(3, 4), real(4)], domain=MICROSOFT)]
    found += [Case("BiasGelu", [real(2, 3, 4), real(4)], domain=MICROSOFT)]
    found += [Case("QuickGelu", [real(3, 4)], more, domain=MICROSOFT) for more in ({}, {"alpha": 1.3})]
    low, high = np.float64(-0.7), np.float64(0.8)
    found += [Case("Clip", [real(3, 4), low, high], stored=(1, 2)), Case("Clip", [real(9), "", high], stored=(2,))]
    found += [Case("Clip", [real(9)]), Case("Clip", [real(9), low, high]), Case("Clip", [real(9), low])]
    return found


def _several() -> list[Case]:
    pairs = [((3, 4), (3, 4)), ((2, 3, 4), (4,)), ((2, 1, 4), (3, 1)), ((1,), (2, 3)), ((), (2, 2))]
    found = []
    for first, second in pairs:
        found += [Case(name, [real(*first), real(*second)]) for name in ("Add", "Sub", "Mul", "Max", "Min", "Sum")]
        found += [Case("Div", [real(*first), real(*second, low=0.4, high=2.0)])]
        found += [Case("Pow", [real(*first, low=0.4, high=2.0), real(*second)])]
        found += [Case("Mean", [real(*first), real(*second)]), Case("PRelu", [real(2, *first), real(*first)])]
    found += [Case("Max", [real(3), real(2, 1), real(3)]), Case("Sum", [real(3), real(2, 1), real(1)])]
    found += [Case("Pow", [real(3, 4), np.float64(3.0)], stored=(1,)), Case("Pow", [real(3, 4), whole([2])])]
    found += [Case("Mod", [np.array([[0.4, 2.9, -1.7], [5.3, -0.2, 1.9]]), np.array([1.1, -0.8, 2.3])], {"fmod": 1})]
    condition = np.array([[True, False, True], [False, False, True]])
    found += [Case("Where", [condition, real(2, 3), real(3)]), Case("Where", [condition, real(1), real(2, 1)])]
    found += [Case("PRelu", [real(2, 3, 4), real(3, 1)])]
    return found


def _linear() -> list[Case]:
    pairs = [
        ((3, 4), (4, 2)),
        ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)),
        ((1, 2, 3, 4), (5, 1, 4, 2)),
        ((4,), (4, 3)),
    ]
    pairs += [
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((2, 3, 4), (4,)),
        ((4,), (2, 4, 3)),
        ((3, 4), (2, 4, 5)),
        ((1, 3, 4), (4, 2)),
    ]
    found = [Case("MatMul", [real(*first), real(*second)]) for first, second in pairs]
    for turned in ((0, 0), (1, 0), (0, 1), (1, 1)):
        first, second = ((4, 3), (3, 4))[1 - turned[0]], ((4, 5), (5, 4))[turned[1]]
        flags = {"transA": turned[0], "transB": turned[1], "alpha": 0.7, "beta": 1.3}
        for bias in ((5,), (3, 1), (3, 5), ()):
            found += [Case("Gemm", [real(*first), real(*second), real(*bias)], flags)]
    found += [Case("Gemm", [real(3, 4), real(4, 5)])]
    equations = [("ij,jk->ik", (2, 3), (3, 4)), ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 2, 4))]
    equations += [("ij,kj", (2, 3), (4, 3)), ("ij,k->k", (2, 3), (4,)), ("...ij,jk->...ik", (2, 2, 3), (3, 4))]
    found += [Case("Einsum", [real(*a), real(*b)], {"equation": text}) for text, a, b in equations]
    found += [Case("Einsum", [real(2, 3)], {"equation": "ij->ji"}), Case("Einsum", [real(2, 3)], {"equation": "ij->i"})]
    return found


def _convolution() -> list[Case]:
    found = [
        Case("Conv", [real(2, 3, 5, 4), real(4, 3, 3, 2), real(4)], more)
        for more in (
            {},
            {"pads": [1, 0, 1, 1]},
            {"strides": [2, 1]},
            {"strides": [2, 2], "pads": [1, 1, 1, 1]},
            {"dilations": [2, 1], "pads": [2, 0, 1, 0]},
            {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
            {"auto_pad": "SAME_LOWER"},
            {"auto_pad": "VALID"},
        )
    ]
    found += [Case("Conv", [real(2, 4, 5, 5), real(6, 2, 3, 3)], {"group": 2, "pads": [1, 1, 1, 1]})]
    found += [Case("Conv", [real(2, 3, 6, 6), real(3, 1, 3, 3), real(3)], {"group": 3, "strides": [2, 2]})]
    found += [Case("Conv", [real(1, 2, 4, 4), real(4, 1, 2, 2)], {"group": 2})]
    found += [
        Case("Conv", [real(2, 3, 4, 4), real(5, 3, 1, 1)]),
        Case("Conv", [real(2, 3, 5, 5), real(2, 3, 1, 1)], {"strides": [2, 2]}),
    ]
    found += [Case("Conv", [real(2, 3, 7), real(4, 3, 3)], {"strides": [2], "pads": [1, 0]})]
    found += [Case("Conv", [real(1, 2, 3, 4, 3), real(3, 2, 2, 2, 2)], {"pads": [0, 1, 0, 1, 0, 0]})]
    shared = [
        {},
        {"strides": [2, 2]},
        {"strides": [2, 1], "pads": [1, 0, 0, 1]},
        {"dilations": [2, 1]},
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ]
    found += [Case("ConvTranspose", [real(2, 3, 4, 3), real(3, 2, 3, 2), real(2)], more) for more in shared]
    found += [Case("ConvTranspose", [real(1, 4, 3, 3), real(4, 2, 2, 2)], {"group": 2, "strides": [2, 2]}, linear=True)]
    found += [
        Case(
            "ConvTranspose",
            [real(1, 3, 4, 3), real(3, 2, 3, 2), real(2)],
            {"strides": [2, 2], "output_shape": [8, 6]},
            linear=True,
        )
    ]
    found += [Case("ConvTranspose", [real(1, 3, 3, 3), real(3, 1, 2, 2)], {"group": 3, "strides": [2, 2]})]
    found += [Case("ConvTranspose", [real(1, 2, 4), real(2, 3, 3)], {"strides": [2]})]
    return found + _windows()


def _windows() -> list[Case]:
    """Strides, dilations, groups and padding at once, from one dimension to three."""
    line, pictures, rooms = real(2, 4, 8), real(1, 4, 9, 7), real(1, 4, 6, 7, 5)
    uneven: dict[str, Any] = {"dilations": [2, 1, 2], "strides": [1, 2, 2], "pads": [1, 0, 1, 0, 2, 1]}
    flat: dict[str, Any] = {"dilations": [2, 3], "strides": [3, 2], "pads": [2, 1, 0, 3]}
    found = [
        Case("Conv", [line, real(6, 2, 3), real(6)], {"dilations": [2], "strides": [2], "pads": [1, 2], "group": 2}),
        *(Case("Conv", [rooms, real(8, 4 // group, 2, 3, 2)], {**uneven, "group": group}) for group in (2, 4)),
        *(Case("Conv", [pictures, real(4, 4 // group, 3, 2)], {**flat, "group": group}) for group in (1, 2, 4)),
        Case("Conv", [pictures, real(2, 2, 3, 3)], {"strides": [4, 5], "group": 2}),  # what no window sees
        Case("Conv", [pictures, real(4, 1, 1, 1)], {"strides": [2, 2], "group": 4, "pads": [1, 0, 0, 1]}),
        Case("Conv", [real(1, 2, 4, 5, 3), real(2, 2, 3, 2, 2)], {"auto_pad": "SAME_LOWER", "strides": [2, 2, 1]}),
        # More channels than places, than offsets, and both with groups.
        Case("Conv", [real(2, 3, 3, 2), real(7, 3, 3, 2)], {"pads": [1, 0, 1, 1]}),
        Case("Conv", [real(2, 3, 5, 4), real(7, 3, 2, 2)], {"strides": [2, 3]}),
        Case("Conv", [real(2, 5, 5, 4), real(6, 5, 2, 2)]),
        Case("Conv", [real(2, 6, 5, 3), real(12, 6, 2, 2)], {"strides": [2, 1], "pads": [0, 1, 0, 0]}),
        Case("Conv", [real(2, 12, 5), real(4, 6, 3)], {"group": 2, "dilations": [2]}),
        Case("ConvTranspose", [real(2, 7, 2, 2), real(7, 5, 2, 2)], {"strides": [2, 1]}),
    ]
    for auto in ("SAME_UPPER", "SAME_LOWER"):
        found += [
            Case("Conv", [line, real(4, 1, 4)], {"auto_pad": auto, "strides": [s], "group": 4}) for s in (1, 2, 3)
        ]
        found += [Case("ConvTranspose", [line, real(4, 3, 3)], {"auto_pad": auto, "strides": [2], "group": 2})]
    spread: list[dict[str, Any]] = [
        {"strides": [2], "dilations": [2], "pads": [1, 0], "output_padding": [1]},
        {"strides": [3], "output_padding": [2]},
        {"strides": [2], "output_shape": [17]},
        {"strides": [2], "output_shape": [17], "auto_pad": "SAME_UPPER"},
        {"pads": [2, 2]},
    ]
    found += [Case("ConvTranspose", [line, real(4, 3, 3), real(6)], {**more, "group": 2}) for more in spread]
    uneven = {"strides": [2, 1, 2], "dilations": [1, 2, 1], "pads": [0, 1, 0, 1, 0, 1], "output_padding": [1, 0, 1]}
    found += [Case("ConvTranspose", [real(1, 2, 3, 3, 2), real(2, 2, 2, 3, 2)], uneven)]
    return [replace(case, linear=True) for case in found]


def _pooling() -> list[Case]:
    forms: list[dict[str, Any]] = [
        {"kernel_shape": [2, 2]},
        {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]},
        {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "auto_pad": "SAME_UPPER"},
    ]
    found = [Case(name, [real(2, 3, 5, 5)], form) for name in ("MaxPool", "AveragePool") for form in forms]
    found += [Case("MaxPool", [real(1, 2, 6, 6)], {"kernel_shape": [2, 2], "dilations": [2, 2]})]
    found += [Case("AveragePool", [real(1, 2, 5, 5)], {**forms[1], "count_include_pad": 1})]
    found += [Case(name, [real(2, 2, 7)], {"kernel_shape": [3], "strides": [2]}) for name in ("MaxPool", "AveragePool")]
    found += [Case(name, [real(1, 2, 3, 4, 3)], {"kernel_shape": [2, 2, 2]}) for name in ("MaxPool", "AveragePool")]
    forms = [
        {"auto_pad": "SAME_LOWER"},
        {"ceil_mode": 1, "strides": [2, 2], "pads": [1, 1, 1, 1]},
        {"ceil_mode": 1, "strides": [3, 3]},  # where onnx counts a window that sees nothing
        {"dilations": [2, 1], "strides": [2, 2], "pads": [1, 1, 0, 0]},
        {"strides": [4, 4]},
    ]
    x, kernel = real(2, 2, 7, 6), {"kernel_shape": [3, 2]}
    found += [Case("MaxPool", [x], {**kernel, **form}) for form in forms]
    for form in forms:
        counted = [{**kernel, **form, "count_include_pad": count} for count in (0, 1)]
        found += [Case("AveragePool", [x], each, opset=19, linear=True) for each in counted]
    rooms = {"kernel_shape": [3, 2, 2], "strides": [2, 2, 2], "ceil_mode": 1, "pads": [1, 0, 1, 1, 0, 1]}
    found += [
        Case(f"{kind}Pool", [real(1, 2, 5, 4, 5)], rooms, linear=kind == "Average") for kind in ("Max", "Average")
    ]
    return found + [Case(name, [real(2, 3, 4, 2)]) for name in ("GlobalAveragePool", "GlobalMaxPool")]


def _normalization() -> list[Case]:
    statistics = [real(3, low=0.2, high=1.0), real(3, low=0.5, high=2.0)]
    found = [
        Case("BatchNormalization", [real(2, 3, *more), real(3), real(3), *statistics], stored=(3, 4))
        for more in ((), (4,), (2, 3))
    ]
    found += [Case("BatchNormalization", [real(2, 3, 4), real(3), real(3), *statistics])]
    found += [Case("LayerNormalization", [real(2, 3, 4), real(3, 1), real(4)], {"axis": 1})]
    found += [Case("LayerNormalization", [real(2, 3, 4), real(4), real(4)], {"epsilon": 1e-3})]
    found += [Case("LayerNormalization", [real(2, 3, 4), real(3, 4)], {"axis": 1})]
    found += [Case("InstanceNormalization", [real(2, 3, 4, 2), real(3), real(3)])]
    found += [Case("GroupNormalization", [real(2, 4, 3), real(4), real(4)], {"num_groups": 2}, opset=21)]
    found += [Case("RMSNormalization", [real(2, 3, 4), real(4)], {"axis": -1}, opset=23)]
    simplified = [real(2, 3, 4), real(4)]
    found += [Case("SimplifiedLayerNormalization", simplified, more) for more in ({"epsilon": 1e-3}, {"axis": 2})]
    found += [
        Case("LpNormalization", [real(3, 4)], {"axis": 1}),
        Case("LpNormalization", [real(3, 4)], {"axis": 0, "p": 2}),
    ]
    local = {"alpha": 0.7, "beta": 0.6, "bias": 1.3}
    found += [Case("LRN", [real(2, 5, 2, 3)], {"size": size, **local}) for size in (3, 5)]
    for name in ("Softmax", "LogSoftmax"):
        found += [Case(name, [real(2, 3, 4)], {"axis": axis}) for axis in (-1, 1)]
    return found


def _reductions() -> list[Case]:
    found = []
    for name in ["Sum", "Mean", "L1", "L2", "SumSquare", "LogSumExp", "Prod", "Max", "Min"]:
        x = real(2, 3, 4)
        operator = f"Reduce{name}"
        found += [
            Case(operator, [x, whole([1])]),
            Case(operator, [x, whole([0, -1])], {"keepdims": 0}),
            Case(operator, [x]),
        ]
        if name != "Sum":
            found += [Case(operator, [x], {"axes": [1], "keepdims": 0}, opset=17)]
    found += [Case("ReduceSum", [real(2, 3), whole([])], {"noop_with_empty_axes": 1})]
    found += [Case("ReduceLogSum", [real(2, 3, low=0.3, high=2.0), whole([1])])]
    found += [Case("CumSum", [real(3, 4), whole(1)], {"exclusive": e, "reverse": r}) for e in (0, 1) for r in (0, 1)]
    return [*found, Case("TopK", [real(3, 5), whole([2])], {"axis": 1}, makes=2)]


def _shape() -> list[Case]:
    x = real(2, 3, 4)
    found = [Case("Reshape", [x, whole(4, 6)]), Case("Reshape", [x, whole(0, -1)]), Case("Flatten", [x], {"axis": 2})]
    found += [Case("Squeeze", [real(2, 1, 3), whole([1])]), Case("Unsqueeze", [x, whole(0, 2)]), Case("Transpose", [x])]
    found += [Case("Transpose", [x], {"perm": [2, 0, 1]}), Case("Concat", [real(2, 3), real(2, 2)], {"axis": 1})]
    found += [Case("Concat", [real(2, 3), real(1, 3), real(3, 3)], {"axis": -2}), Case("Concat", [x], {"axis": 0})]
    found += [
        Case("Split", [real(5, 3), whole(2, 3)], {"axis": 0}, makes=2),
        Case("Split", [real(4, 3)], {"num_outputs": 2}, makes=2),
        Case("Split", [real(3, 7)], {"num_outputs": 3, "axis": -1}, makes=3),
    ]
    cuts = [
        ([1], [3], [2], [1]),
        ([0, -2], [2, 100], [1, 2], [1, 1]),
        ([3], [-5], [2], [-1]),
        ([0, 0], [3, 4], [1, 2], [2, 3]),
    ]
    found += [Case("Slice", [x, whole(a), whole(b), whole(c), whole(d)]) for a, b, c, d in cuts]
    found += [
        Case("Slice", [x, *(whole([each]).astype(np.int32) for each in (start, 1, -1, step))], linear=True)
        for start, step in ((0, 1), (3, -2))
    ]
    found += [Case("Slice", [x, whole(0, 1), whole(1, 3)]), Case("Slice", [x, whole([-2]), whole([-1]), whole([-1])])]
    found += [Case("Pad", [real(2, 3), whole(1, 0, 2, 1)]), Case("Pad", [real(3, 4), whole(-1, 1, 0, -2)], linear=True)]
    found += [Case("Pad", [real(3, 4), whole(1, 2, 1, 1)], {"mode": mode}) for mode in ("reflect", "edge")]
    found += [Case("Pad", [real(2, 3), whole(1, 2), "", whole([1])])]
    folded = [(whole(1, 2), [-1], "reflect"), (whole(1, 2), [0], "edge"), (whole(0, 2, 0, 1), [0, 1], "reflect")]
    found += [
        Case("Pad", [real(3, 4), ends, "", whole(axes)], {"mode": mode}, linear=True) for ends, axes, mode in folded
    ]
    found += [Case("Pad", [real(2, 3), whole(1, 0, 2, 1), real()])]
    found += [Case("Pad", [real(3, 4), whole(1, 2, 2, 3)], {"mode": "wrap"}, opset=19, linear=True)]
    found += [Case("Expand", [real(3, 1), whole(2, 3, 4)]), Case("Tile", [real(2, 3), whole(2, 3)])]
    found += [
        Case("Gather", [real(4, 3), whole([0, 2, 2, -1])]),
        Case("Gather", [real(2, 4, 3), whole([[0, 3], [1, 1]])], {"axis": 1}),
    ]
    found += [Case("Gather", [real(4, 3), whole(1)], {"axis": -1})]
    found += [Case("Gather", [real(3, 4, 2), whole([[-1, 0], [-4, 1]])], {"axis": -2})]
    found += [Case("GatherElements", [real(3, 4), whole([[-1, 1], [2, -4]])], {"axis": 1}, linear=True)]
    found += [Case("GatherElements", [real(3, 4), whole([[0, 1, 1], [2, 2, 0]])], {"axis": 0}, linear=True)]
    found += [Case("GatherND", [real(3, 4), whole([[0, 1], [2, 2], [0, 1]])])]
    found += [Case("ScatterND", [real(4, 3), whole([[1], [3]]), real(2, 3)])]
    found += [
        Case("ScatterElements", [real(3, 3), whole([[1, 0, -1]]), real(1, 3)], more, linear=True)
        for more in ({}, {"axis": 1}, {"reduction": "add"})
    ]
    found += [Case("DepthToSpace", [real(1, 8, 2, 3)], {"blocksize": 2, "mode": mode}) for mode in ("DCR", "CRD")]
    found += [Case("SpaceToDepth", [real(1, 2, 4, 6)], {"blocksize": 2})]
    found += [Case("Trilu", [real(3, 4)], {"upper": 0}), Case("Trilu", [real(2, 3, 4), whole(1)])]
    return found + _resized()


def _resized() -> list[Case]:
    def scales(*values: float) -> NDArray[np.float32]:
        return np.array(values, dtype=np.float32)

    found = []
    every = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
    modes = [("nearest", nearest) for nearest in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")]
    for mode, nearest in [*modes, ("linear", ""), ("cubic", "")]:
        for places in every:
            more: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": places}
            more |= {"nearest_mode": nearest} if nearest else {}
            found += [Case("Resize", [real(2, 2, 3, 4), "", scales(1, 1, 2, 1.7)], more)]
            found += [Case("Resize", [real(1, 2, 4, 4), "", "", whole(1, 2, 7, 2)], more)]
    found += [
        Case("Resize", [real(2, 2, 5, 4), "", "", whole(3, 7)], {"axes": [3, 2], "mode": "linear", **more})
        for more in ({}, {"antialias": 1})
    ]
    found += [Case("Resize", [real(1, 3, 4, 3), "", scales(1, 2, 2, 1)], {"mode": "nearest"})]
    found += [Case("Resize", [real(5, 4), "", scales(2, 2)], {"mode": "linear"})]
    found += [Case("Resize", [real(1, 2, 3, 4, 3), "", scales(1, 1, 2, 2, 2)], {"mode": "linear"})]
    cut = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 0.7}
    found += [Case("Resize", [real(1, 2, 4, 4), scales(0, 0, 0.2, 0.2, 1, 1, 0.8, 1.3), "", whole(1, 2, 3, 4)], cut)]
    return [replace(case, opset=19, linear=True) for case in found]


CASES = [
    *_pointwise(),
    *_several(),
    *_linear(),
    *_convolution(),
    *_pooling(),
    *_normalization(),
    *_reductions(),
    *_shape(),
]
