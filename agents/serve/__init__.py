"""An exported policy in live operations, on NumPy and onnxruntime alone.

`Policy.load(bundle).decide(snapshot)` answers with a `Decision`; `python -m agents.serve` does the
same from a shell and over HTTP. The folder works wherever it is copied to, under any name.
"""

from .decision import Decision
from .errors import BundleError, FieldError
from .runtime import Policy

__all__ = ["BundleError", "Decision", "FieldError", "Policy"]
