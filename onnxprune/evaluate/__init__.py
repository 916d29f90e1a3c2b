"""What accuracy does not tell: networks side by side."""

from onnxprune.evaluate.runner import Latency, Runner, latencies, runner_of

__all__ = ["Latency", "Runner", "latencies", "runner_of"]
