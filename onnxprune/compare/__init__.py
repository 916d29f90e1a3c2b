"""Networks judged beside their original: on inputs as they are, under shift, and by how far one may prune."""

from onnxprune.compare.comparing import compare_files
from onnxprune.compare.comparison import Comparison
from onnxprune.compare.flags import compare_parser, comparison

__all__ = ["Comparison", "compare_files", "compare_parser", "comparison"]
