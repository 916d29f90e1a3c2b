"""Carrying out: the plan, and the edit of the model that it stands for."""

from onnxprune.rewrite.apply import apply
from onnxprune.rewrite.fresh import Fresh, redraw, trained
from onnxprune.rewrite.places import places
from onnxprune.rewrite.plan import GroupPlan, Plan
from onnxprune.rewrite.signs import write_signed

__all__ = ["Fresh", "GroupPlan", "Plan", "apply", "places", "redraw", "trained", "write_signed"]
