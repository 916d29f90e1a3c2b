"""Networks of three libraries with seeded random weights, as torch modules with the inputs they take.

A development tool: it needs torch and the library that a network comes from, none of which onnxprune needs to prune.
"""

from __future__ import annotations

import contextlib
import importlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import nn

with contextlib.suppress(ImportError):
    import torchvision_cpu  # noqa: F401  (a shim that makes torchvision import beside a CPU build of torch)
from zoo_names import module_of

TokenInput = dict[int, str]


@dataclass(frozen=True)
class Network:
    """A network in eval mode, and what it takes.

    Attributes
    ----------
    model : nn.Module
        Takes the inputs in their order, returns a tensor or a tuple of tensors.
    inputs : dict of str to Tensor
        Example inputs, with two samples.
    symbolic : dict of str to dict of int to str
        Names of the axes of the inputs that may have any size.
    heads : tuple of nn.Module
        Layers that write outputs, where they are not found by their size.
    """

    model: nn.Module
    inputs: dict[str, torch.Tensor]
    symbolic: dict[str, dict[int, str]]
    heads: tuple[nn.Module, ...] = field(default=())


class Outputs(nn.Module):
    """A network whose outputs are one tensor, or a flat tuple of them."""

    def __init__(self, network: nn.Module) -> None:
        """Wrap a network."""
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Run it and keep the tensors of what it returns."""
        found = tuple(tensors(self.network(*inputs)))
        return found[0] if len(found) == 1 else found


def tensors(value: object) -> Iterable[torch.Tensor]:
    """Return the tensors of nested tuples, lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from tensors(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors(each)


def images(size: int, channels: int = 3) -> dict[str, torch.Tensor]:
    """Return two images, as one input."""
    return {"input": torch.randn(2, channels, size, size, generator=torch.Generator().manual_seed(0))}


ANY_BATCH = {"input": {0: "batch"}}
_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.Linear)
_BATCHNORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def randomise(network: Network, zero_bias: bool = False) -> None:
    """Draw weights, biases and statistics, so that no two tensors are equal and no tensor is uniform.

    BatchNormalization is given statistics of the example inputs' size: with others, signals grow from layer to
    layer until attention picks one position, and the last digits decide which.

    With `zero_bias`, biases are zero and normalisations keep their initial constants, so that many tensors are equal:
    an exporter stores those once for many nodes, or leaves zero biases out.
    """
    model = network.model
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, _WEIGHTED) or type(module).__name__ == "Conv1D":
                _draw_weight(module)
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, 1.0)
            if zero_bias and isinstance(getattr(module, "bias", None), nn.Parameter):
                module.bias.zero_()
        if zero_bias:
            return
        for name, parameter in model.named_parameters():
            _disturb(name, parameter)
        _draw_statistics(network)


def _draw_weight(module: nn.Module) -> None:
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    if weight.ndim > 1:
        activation = "linear" if isinstance(module, nn.Linear) else "relu"
        nn.init.kaiming_normal_(weight.T if type(module).__name__ == "Conv1D" else weight, nonlinearity=activation)


def _draw_statistics(network: Network) -> None:
    """Give each BatchNormalization statistics of the size of what comes in, disturbed, in one pass over the layers."""
    layers = [each for each in network.model.modules() if isinstance(each, _BATCHNORM) and each.track_running_stats]
    hooks = [layer.register_forward_pre_hook(_fit_statistics) for layer in layers]
    network.model.eval()
    if layers:
        network.model(*network.inputs.values())
    for hook in hooks:
        hook.remove()


def _fit_statistics(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
    """Draw means and variances around the size of all channels together; one by one, small differences would grow."""
    width = inputs[0].shape[1]
    power = float(inputs[0].square().mean()) + 1e-6
    layer.running_mean = 0.1 * power**0.5 * torch.randn(width)
    layer.running_var = power * torch.empty(width).uniform_(0.5, 1.5)


def _disturb(name: str, parameter: nn.Parameter) -> None:
    """Replace a vector, or a tensor whose elements are all equal, by small noise around zero or one."""
    uniform = parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all())
    if parameter.ndim > 1 and not uniform:
        return
    factor = "bias" not in name and "token" not in name and ("embed" not in name or "norm" in name)
    scalar = parameter.numel() == 1
    middle = float(parameter) if scalar and abs(float(parameter)) > 0.01 else float(factor)
    parameter.normal_(middle, 0.1)


def build(name: str, seed: int = 0, zero_bias: bool = False) -> Network:
    """Build a network of the zoo, in eval mode, its weights drawn by the seed."""
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: Network = importlib.import_module(module_of(name)).build(name)
    randomise(network, zero_bias)
    network.model.eval()
    for parameter in network.model.parameters():
        parameter.requires_grad_(True)
    return network
