from __future__ import annotations

import pickle
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image

from refseg.data.loader import TrainingBatches
from refseg.data.sets import open_data
from refseg.data.shapes import RefShapes
from refseg.types import Expression, Reference, Sample
from tiny import TOKENIZER, tiny

INPUT = tiny("lgformer-shapes").input


def batches(data=None, endless=True, **changes):
    options = {"images_per_batch": 3, "expressions_per_image": 2, "seed": 5, "steps": 10, "endless": endless} | changes
    return TrainingBatches(data or RefShapes("refshapes", "train"), TOKENIZER, INPUT, **options)


def same(a, b):
    for field in fields(a):
        x, y = getattr(a, field.name), getattr(b, field.name)
        if not (torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y):
            return False
    return True


def test_a_batch_depends_on_its_number_alone():
    one, other = batches(), pickle.loads(pickle.dumps(batches()))
    (late,) = one[7]
    assert same(other[7][0], late) and not same(one[6][0], late)
    assert not same(batches(seed=6)[7][0], late)


def test_expressions_belong_to_their_images():
    data = RefShapes("refshapes", "train")
    (batch,) = batches()[0]
    t = len(batch.ids)
    assert batch.pixels.shape == (3, 3, *INPUT.size) and batch.targets.shape == (t, *INPUT.size)
    assert batch.tokens.shape[0] == batch.token_mask.shape[0] == batch.image_index.shape[0] == t
    assert torch.bincount(batch.image_index, minlength=3).tolist() == [
        min(2, len(data[i].expressions)) for i in range(3)
    ]
    for name, image in zip(batch.ids, batch.image_index.tolist(), strict=True):
        assert name.startswith(data[image].image_id)


@pytest.mark.parametrize("resize", ["squash", "letterbox"])
def test_pixels_travel_as_bytes_and_arrive_as_a_network_reads_them(resize):
    config, data = replace(INPUT, resize=resize), RefShapes("refshapes", "train")
    (batch,) = replace(batches(), input=config)[2]
    arrived = batch.to("cpu")
    assert batch.pixels.dtype == torch.uint8 and arrived.pixels.dtype == torch.float32
    mean, std = np.float32(config.mean), np.float32(config.std)
    for number, pixels in enumerate(arrived.pixels):
        image = data[6 + number].image
        scale = min(config.size[0] / image.shape[0], config.size[1] / image.shape[1])
        h, w = config.size if resize == "squash" else (round(scale * side) for side in image.shape[:2])
        method = Image.Resampling.BILINEAR if resize == "squash" else Image.Resampling.BICUBIC
        seen = np.asarray(Image.fromarray(image).resize((w, h), method), np.float32) / 255
        by_hand = np.zeros((*config.size, 3), np.float32)
        top, left = (config.size[0] - h) // 2, (config.size[1] - w) // 2
        by_hand[top : top + h, left : left + w] = (seen - mean) / std
        np.testing.assert_allclose(pixels.permute(1, 2, 0).numpy(), by_hand, atol=1e-6)


class Few:
    """Five one-coloured images with one expression each."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        image = np.full((16, 16, 3), index * 40, dtype=np.uint8)
        reference = Reference(str(index), np.ones((16, 16), dtype=bool))
        return Sample(str(index), image, (reference,), (Expression(str(index), "red", 0),))


def test_finite_data_is_shuffled_and_every_image_comes_once_per_pass():
    some = batches(Few(), endless=False, images_per_batch=3, steps=10)
    order = [name for step in range(10) for name in some[step][0].ids]
    passes = [order[i : i + 5] for i in range(0, 30, 5)]
    assert all(sorted(p) == list("01234") for p in passes)
    assert len({tuple(p) for p in passes}) > 1


@pytest.mark.parametrize(("processes", "pieces"), [(1, 3), (3, 1), (2, 2), (1, 5)])
def test_however_a_step_is_divided_it_has_the_same_content(processes, pieces):
    (whole,) = batches(images_per_batch=5)[4]
    options = {"images_per_batch": 5, "processes": processes, "pieces": pieces}
    shares = [batches(rank=rank, **options)[4] for rank in range(processes)]
    assert all(len(share) == pieces for share in shares)
    parts = [part for share in shares for part in share]
    assert sum((part.ids for part in parts), ()) == whole.ids
    assert torch.equal(torch.cat([part.pixels for part in parts]), whole.pixels)
    assert torch.equal(torch.cat([part.targets for part in parts]), whole.targets)
    sizes = [len(part.pixels) for part in parts]
    assert max(sizes) - min(sizes) <= 1
    starts = np.cumsum([0, *sizes[:-1]])
    index = torch.cat([part.image_index + int(start) for part, start in zip(parts, starts, strict=True)])
    assert torch.equal(index, whole.image_index)


def test_more_parts_than_images_are_refused():
    with pytest.raises(
        ValueError, match=r"2 process\(es\) with --accumulate 2: a step has to have at least 4 images; .* is 3"
    ):
        batches(images_per_batch=3, processes=2, pieces=2)


def test_unknown_data_is_refused():
    with pytest.raises(ValueError, match="refshapes, refshapes\\+, refshapesg"):
        open_data("coco", "val")
