"""Referring expressions from instance masks, for data sets that have objects but no sentences.

    coco (what a file says) -> scene (what can be measured) -> propose (what could be said) -> solver (whom it fits)
    -> words (how it is said), with `generate` choosing among what is left.

An expression is written only if the solver, which knows every annotated object of the image and nothing about how the
expression came to be, finds that it clearly fits its object and that no other object fits it even perhaps. What is not
annotated is not known: data sets label some of many small things only. Colour is left out, because light and shadow
make it unreliable to read from pixels.
"""

from refseg.data.describe.coco import Photos
from refseg.data.describe.generate import KINDS, Described, describe
from refseg.data.describe.run import Describer, Options

__all__ = ["KINDS", "Described", "Describer", "Options", "Photos", "describe"]
