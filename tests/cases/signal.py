"""Cases of operators of signal processing."""

from collections.abc import Callable

from net import Net
from onnx import ModelProto

from cases.case import Case, chain, row

__all__ = ["CASES"]

_MICROSOFT = "com.microsoft"


def _spectrum(opset: int, axis: int | None, **attributes: int) -> Callable[[], ModelProto]:
    """The energy of each frequency along an axis; the last but one by default."""

    def middle(net: Net, x: str) -> str:
        real = net.add("Unsqueeze", x, net.constant([4]))
        if opset < 20:
            found = net.add("DFT", real, axis=axis, **attributes)
        else:
            found = net.add("DFT", real, "", *([] if axis is None else [net.constant(axis)]), **attributes)
        return net.add("ReduceSumSquare", found, net.constant([4]), keepdims=0) if opset >= 18 else _energy(net, found)

    return chain(middle, opset=opset)


def _energy(net: Net, x: str) -> str:
    return net.add("ReduceSumSquare", x, axes=[4], keepdims=0)


def _loudness(*, window: str) -> Callable[[], ModelProto]:
    """Frequencies of a signal's frames are weighed by a layer, whose channels are read by another."""

    def make() -> ModelProto:
        net = Net()
        made = {"stored": lambda: net.weight(8), "": lambda: ""}.get(window, lambda: net.add(window, net.constant(8)))()
        length = [net.constant(8)] if not window else []
        found = net.add("STFT", net.input("n", 32, 1), net.constant(4), made, *length, onesided=1)
        hidden = net.add("Relu", net.dense(_energy_of(net, found), 6, 5))
        return net.done(net.dense(hidden, 2, 6))

    return make


def _energy_of(net: Net, x: str) -> str:
    return net.add("ReduceSumSquare", x, axes=[3], keepdims=0)


def _signals_of_channels() -> ModelProto:
    """Positions of a layer are a signal."""
    net = Net()
    hidden = net.dense(net.input("n", 16, 3), 6, 3)
    first = net.add("Slice", hidden, net.constant([0]), net.constant([1]), net.constant([2]))
    found = net.add("STFT", first, net.constant(4), "", net.constant(8))
    return net.done(net.add("ReduceSum", _energy_of(net, found)), net.dense(hidden, 2, 6))


def _filters() -> ModelProto:
    """A filter bank, whose filters a layer reads."""
    net = Net()
    numbers = [net.constant(number) for number in (6, 8, 8000)] + [net.constant(edge, "f") for edge in (0.0, 4000.0)]
    bank = net.add("MelWeightMatrix", *numbers)
    heard = net.add("MatMul", net.add("Relu", net.dense(net.input("n", 4, 3), 5, 3)), bank)
    return net.done(net.dense(net.add("Relu", net.dense(heard, 7, 6)), 2, 7))


def _windowed(window: str) -> Callable[[Net, str], str]:
    return lambda net, x: net.add("Mul", x, net.add(window, net.constant(6)))


def _there_and_back(operators: tuple[str, ...]) -> Callable[[Net, str], str]:
    def middle(net: Net, x: str) -> str:
        for name in operators:
            x = net.add(name, x, domain=_MICROSOFT, onesided=1, normalized=0, signal_ndim=1)
        return x

    return middle


_WINDOWS = ("HannWindow", "HammingWindow", "BlackmanWindow")
_MIXED = (("MIXED", 6),)

CASES: tuple[Case, ...] = (
    Case(row("DFT"), "of positions", _spectrum(17, 3), (6,)),
    Case(row("DFT"), "of positions, one side", _spectrum(17, -3, onesided=1), (6,)),
    Case(row("DFT"), "of channels", _spectrum(17, 1), (), _MIXED),
    Case(row("DFT", 20), "of positions", _spectrum(20, -3), (6,)),
    Case(row("DFT", 20), "of positions, by default", _spectrum(20, None), (6,)),
    Case(row("DFT", 20), "of channels", _spectrum(20, 1), (), _MIXED),
    *(Case(row("STFT"), f"window {window or 'none'}", _loudness(window=window), (6,)) for window in ("", "stored")),
    Case(row("STFT"), "of a channel", _signals_of_channels, (5,), (("POSITION", 1),)),
    *(Case(row(window), "of a signal", _loudness(window=window), (6,)) for window in _WINDOWS),
    *(Case(row(window), "over positions", chain(_windowed(window)), (6,)) for window in _WINDOWS),
    Case(row("MelWeightMatrix"), "read by a layer", _filters, (7,), (("POSITION", 5),)),
    *(
        Case(
            row(name, domain=_MICROSOFT), "there and back", chain(_there_and_back(("Rfft", "Irfft"))), (6,), runs=False
        )
        for name in ("Rfft", "Irfft")
    ),
)
