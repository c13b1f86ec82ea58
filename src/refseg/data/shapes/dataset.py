"""The sets of RefShapes as sequences of samples."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from refseg.data.shapes.draw import render
from refseg.data.shapes.generate import Question, generate
from refseg.data.shapes.mix import MIX
from refseg.data.shapes.program import Head
from refseg.data.shapes.scene import Scene
from refseg.data.shapes.solver import Solver
from refseg.data.shapes.stream import Stream
from refseg.types import Expression, Reference, Sample

SETS = tuple(MIX)
SPLITS = ("train", "val", "testA", "testB")
SCENES = 1000  # in val, testA and testB
BASELINES = ("random object", "largest object", "noun and colour")

_ENDLESS = 2**31 - 1


class RefShapes:
    """One split of one of the three sets.

    A sample is a pure function of set, split and index, and the same on every platform. Workers may share an object.

    Args:
        name: `refshapes` (everything), `refshapes+` (no location words) or `refshapesg` (long, relational).
        split: `train` (endless), `val`, `testA` (like val), or `testB` (pairs of colour and shape, and of relation and
            shape, that never occur in training).

    Raises:
        ValueError: If the name or the split is unknown.
    """

    def __init__(self, name: str = "refshapes", split: str = "val") -> None:
        if name not in SETS:
            raise ValueError(f"RefShapes: there is no set {name!r}; accepted are {', '.join(SETS)}")
        if split not in SPLITS:
            raise ValueError(f"RefShapes: there is no split {split!r}; accepted are {', '.join(SPLITS)}")
        self.name = name
        self.split = split
        self.endless = split == "train"

    def __len__(self) -> int:
        """Number of scenes; 2**31 - 1 for the endless training split."""
        return _ENDLESS if self.endless else SCENES

    def __getitem__(self, index: int) -> Sample:
        """The scene number `index` at its own size, with its references and expressions.

        Raises:
            IndexError: If the index is outside the split.
        """
        width, height = self.scene(index).size
        return self.draw(index, width, height)

    def draw(self, index: int, width: int, height: int) -> Sample:
        """The same sample drawn at any size.

        Args:
            index: Number of the scene.
            width: Width in pixels.
            height: Height in pixels.

        Raises:
            IndexError: If the index is outside the split.
            ValueError: If the size is not positive.
        """
        if width < 1 or height < 1:
            raise ValueError(f"RefShapes: cannot draw at {width} x {height}; both sides must be at least 1 pixel")
        scene, questions = self._generated(index)
        image, ids = self._drawn(index, (width, height))
        image_id = self._image_id(index)
        targets = _targets(questions)
        shapes = [thing.shape for thing in scene.things]
        return Sample(
            image_id=image_id,
            image=image.copy(),
            references=tuple(
                Reference(f"{image_id}-{number}", ids == target, shapes[target], shapes.count(shapes[target]))
                for number, target in enumerate(targets)
            ),
            expressions=self.expressions(index),
        )

    def expressions(self, index: int) -> tuple[Expression, ...]:
        """The expressions of `Sample.expressions`, without drawing the scene.

        Raises:
            IndexError: If the index is outside the split.
        """
        _, questions = self._generated(index)
        targets = _targets(questions)
        return tuple(
            Expression(
                f"{self._image_id(index)}-{number}", question.text, targets.index(question.target), question.kind
            )
            for number, question in enumerate(questions)
        )

    def others(self, index: int, size: tuple[int, int]) -> Iterator[Reference]:
        """The objects of a scene that no expression is about, drawn at a size (H, W).

        Raises:
            IndexError: If the index is outside the split.
        """
        scene, questions = self._generated(index)
        _, ids = self._drawn(index, (size[1], size[0]))
        targets = _targets(questions)
        for number, thing in enumerate(scene.things):
            if number not in targets:
                yield Reference(f"{self._image_id(index)}:{number}", ids == number, thing.shape)

    def scene(self, index: int) -> Scene:
        """The plan of a scene.

        Raises:
            IndexError: If the index is outside the split.
        """
        return self._generated(index)[0]

    def questions(self, index: int) -> tuple[Question, ...]:
        """The expressions of a scene with their programs, in the order of `Sample.expressions`.

        Raises:
            IndexError: If the index is outside the split.
        """
        return self._generated(index)[1]

    def baselines(self, index: int) -> dict[str, list[np.ndarray]]:
        """What three baselines answer, at the scene's own size.

        Returns:
            For `random object` (any object of the scene), `largest object` (most visible pixels) and `noun and colour`
            (any object that fits noun and colour of the expression's head, without reading the rest) one (H, W) bool
            mask per expression.

        Raises:
            IndexError: If the index is outside the split.
        """
        scene, questions = self._generated(index)
        _, ids = self._drawn(index, scene.size)
        solver = Solver(scene)
        stream = Stream("refshapes 1", self.name, self.split, index, "baselines")
        count = len(scene.things)
        seen = [int(np.count_nonzero(ids == thing)) for thing in range(count)]
        largest = seen.index(max(seen))
        answers: dict[str, list[np.ndarray]] = {name: [] for name in BASELINES}
        for question in questions:
            head = question.program.head
            fitting = solver.matching(Head(shape=head.shape, colour=head.colour))
            answers["random object"].append(ids == stream.below(count))
            answers["largest object"].append(ids == largest)
            answers["noun and colour"].append(ids == stream.choice([i for i in range(count) if fitting >> i & 1]))
        return answers

    def _image_id(self, index: int) -> str:
        return f"{self.name}-{self.split}-{index:06d}"

    def _drawn(self, index: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The picture at a size (W, H), and which thing each pixel shows; neither may be changed."""
        scene, _ = self._generated(index)
        return _own_picture(self.name, self.split, index) if size == scene.size else render(scene, *size)

    def _generated(self, index: int) -> tuple[Scene, tuple[Question, ...]]:
        """The scene and its questions."""
        if not 0 <= index < len(self):
            last_index = len(self) - 1
            raise IndexError(f"RefShapes: there is no scene {index} in {self.split}; it has scenes 0 to {last_index}")
        return _lately(self.name, self.split, index)


@lru_cache(maxsize=64)
def _lately(name: str, split: str, index: int) -> tuple[Scene, tuple[Question, ...]]:
    """`generate`, kept for a while: an evaluation asks for a batch of scenes, and again when it has the answers."""
    return generate(name, split, index)


@lru_cache(maxsize=64)
def _own_picture(name: str, split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture of a scene at its own size, and which thing each pixel shows; kept for a while, too."""
    scene, _ = _lately(name, split, index)
    return render(scene, *scene.size)


def _targets(questions: tuple[Question, ...]) -> list[int]:
    """The objects that are asked about, in the order in which they first occur."""
    return list(dict.fromkeys(question.target for question in questions))
