"""Carrying out: the plan, and the edit of the model that it stands for."""

from onnxprune.rewrite.apply import apply
from onnxprune.rewrite.fresh import Fresh, redraw
from onnxprune.rewrite.plan import GroupPlan, Plan
from onnxprune.rewrite.signs import write_signed

__all__ = ["Fresh", "GroupPlan", "Plan", "apply", "redraw", "write_signed"]
