"""Memory of an evaluation over splits of different lengths: a batch should decide it, not the split.

    python benchmarks/evaluation_memory.py --images 1000 4000

The first 1,000 scenes of RefShapes val are the split itself; longer splits are made of the first scenes of train, which
has no end. Each length runs in a process of its own. Printed is the resident memory in MiB after the model was loaded
and at five points of the way, with the highest so far (Linux).
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from pathlib import Path

from refseg.data.shapes import RefShapes
from refseg.data.shapes.dataset import SCENES
from refseg.predictor import Predictor
from refseg.scoring.evaluation import IMAGES_PER_BATCH, evaluate

POINTS = 5


class FirstScenes(RefShapes):
    """The first scenes of val, or of train where val has not as many."""

    def __init__(self, images: int) -> None:
        """Takes so many scenes."""
        super().__init__("refshapes", "val" if images <= SCENES else "train")
        self.endless = False
        self._images = images

    def __len__(self) -> int:
        """Number of scenes."""
        return self._images


def memory() -> tuple[float, float]:
    """Resident memory now and the highest so far, in MiB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    now = pages * resource.getpagesize() / 2**20
    return now, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def run(model: str, images: int, images_per_batch: int) -> None:
    """Evaluates a model on so many scenes and prints the memory on the way."""
    data, predictor = FirstScenes(images), Predictor.from_pretrained(model, "cpu")
    step = images / POINTS
    done, printed = 0, 0

    def at(count: int) -> None:
        nonlocal done, printed
        done += count
        while printed < POINTS and done >= (printed + 1) * step:
            printed += 1
            now, peak = memory()
            print(f"  {done:6d} images  {now:7.1f} MiB now  {peak:7.1f} MiB at most", flush=True)

    print(f"{model} on {images} images of RefShapes {data.split}, {images_per_batch} at a time")
    now, peak = memory()
    print(f"  {0:6d} images  {now:7.1f} MiB now  {peak:7.1f} MiB at most", flush=True)
    started = time.perf_counter()
    scores, took = evaluate(predictor, data, images_per_batch=images_per_batch, progress=at)
    print(f"  {len(scores.pairs)} expressions in {time.perf_counter() - started:.0f} s, {took['rate']:.1f} per second; "
          f"mIoU {100 * scores.summary()['mIoU']:.2f} %")  # fmt: skip


def main() -> None:
    """Runs every length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lgformer-shapes")
    parser.add_argument("--images", type=int, nargs="+", default=[SCENES, 4 * SCENES])
    parser.add_argument("--images-per-batch", type=int, default=IMAGES_PER_BATCH)
    given = parser.parse_args()
    for images in given.images:
        process = multiprocessing.get_context("spawn").Process(
            target=run, args=(given.model, images, given.images_per_batch)
        )
        process.start()
        process.join()


if __name__ == "__main__":
    main()
