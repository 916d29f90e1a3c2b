"""Cases of operators that draw random numbers; none can be compared with its twin."""

from net import Net

from cases.case import Case, Middle, chain, row

__all__ = ["CASES"]


def _noise(operator: str) -> Middle:
    """Noise in the shape of a layer."""
    return lambda net, x: net.add("Add", x, net.add(operator, x))


def _one_noise(operator: str) -> Middle:
    """Noise that all channels share, as for stochastic depth."""
    return lambda net, x: net.add("Mul", x, net.add(operator, net.add("ReduceMax", x, axes=[1, 2, 3])))


def _shaped_noise(operator: str, *shape: int) -> Middle:
    return lambda net, x: net.add("Add", x, net.add(operator, shape=list(shape)))


def _chosen(net: Net, x: str) -> str:
    """Channels are drawn by their scores."""
    scores = net.add("Flatten", net.add("GlobalMaxPool", x))
    drawn = net.add("Cast", net.add("Multinomial", scores, sample_size=1), to=1)
    return net.add("Add", x, net.add("Unsqueeze", drawn, net.constant([2, 3])))


def _coins(net: Net, x: str) -> str:
    return net.add("Bernoulli", net.add("Sigmoid", x))


_RUNTIME = (("RUNTIME", 6),)

CASES: tuple[Case, ...] = (
    *(
        case
        for name in ("RandomNormalLike", "RandomUniformLike")
        for case in (
            Case(row(name), "per element", chain(_noise(name)), (), _RUNTIME, runs=False),
            Case(row(name), "per picture", chain(_one_noise(name)), (), (("MIXED", 6),), runs=False),
        )
    ),
    *(
        case
        for name in ("RandomNormal", "RandomUniform")
        for case in (
            Case(row(name), "per position", chain(_shaped_noise(name, 6, 6)), (6,), runs=False),
            Case(row(name), "per element", chain(_shaped_noise(name, 6, 6, 6)), (), (("POSITION", 6),), runs=False),
        )
    ),
    Case(row("Multinomial"), "of channels", chain(_chosen), (), _RUNTIME, runs=False),
    Case(row("Bernoulli"), "of channels", chain(_coins), (), _RUNTIME, runs=False),
)
