"""Single nodes are run by their inputs' places, not by their names."""

import numpy as np
from net import Net
from onnx import helper

from onnxprune.graph.index import Index
from onnxprune.shapes.evaluate import Evaluator


def test_inputs_of_one_name_keep_values_of_their_own() -> None:
    net = Net()
    evaluator = Evaluator(Index(net.done(net.add("Relu", net.input(2)))))
    numbers = [np.array([place]) for place in range(3)]
    for names in (["a", "b", "b"], ["a", "b", "c"]):
        (found,) = evaluator.values(helper.make_node("Concat", names, ["y"], axis=0), numbers)
        assert found.tolist() == [0, 1, 2]
