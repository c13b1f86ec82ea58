"""Models as ONNX graphs: `refseg.export.write` makes them with torch, `refseg.export.run` answers without."""

from __future__ import annotations

from refseg.export.manifest import find_export
from refseg.export.run import OnnxPredictor, load_export

__all__ = ["OnnxPredictor", "find_export", "load_export"]
