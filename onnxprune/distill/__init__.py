"""Distillation: all weights of a pruned network moved together, until it answers as the original does."""

from onnxprune.distill.answers import Answer, answers_of
from onnxprune.distill.descent import Distilled, Lesson, distill
from onnxprune.distill.samples import Samples

__all__ = ["Answer", "Distilled", "Lesson", "Samples", "answers_of", "distill"]
