"""RefShapes: the built-in benchmark of drawn scenes, generated expressions and exact masks. Needs no download.

Three sets mirror the RefCOCO family: `refshapes` (everything), `refshapes+` (no location words) and `refshapesg` (long,
relational sentences). The way from a seed to a sample is one module per step:

    stream -> scene (what stands where) -> solver (what is true of it) -> program (what is said) -> language (in which
    words) -> draw (pixels and masks), with `generate` choosing the programs and `dataset` putting everything together.

Everything up to the pixels is integer arithmetic, so a sample is the same on every platform.
"""

from refseg.data.shapes.dataset import SETS, SPLITS, RefShapes
from refseg.data.shapes.language import VOCABULARY

__all__ = ["SETS", "SPLITS", "VOCABULARY", "RefShapes"]
