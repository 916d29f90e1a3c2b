"""Networks judged beside their original: on inputs as they are, under shift, and by how far one may prune."""

from onnxprune.compare.comparing import compare_files
from onnxprune.compare.comparison import Comparison
from onnxprune.compare.flags import compare_parser, comparison
from onnxprune.compare.journal import Journal, require_free

__all__ = ["Comparison", "Journal", "compare_files", "compare_parser", "comparison", "require_free"]
