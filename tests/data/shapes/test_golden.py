"""RefShapes stays as it is: the hashes of scenes, expressions, masks and pixels on every platform."""

from __future__ import annotations

import hashlib
from dataclasses import astuple

import pytest

from refseg.data.shapes import RefShapes

# Scene, expressions and masks; pixels. All of it is integer arithmetic, so the pixels are exact as well.
GOLDEN = {
    ("refshapes", "train", 0): ("f474b7b45ff87265", "ca0861277f623a5c"),
    ("refshapes", "train", 17): ("7ee219dcee98a037", "b8f50e4c0b280a90"),
    ("refshapes", "train", 123_456_789): ("9784049cc5a53e8a", "d61db8cb77d95d21"),
    ("refshapes", "val", 0): ("268621653af58710", "d98377c5d25dce86"),
    ("refshapes", "val", 17): ("0e7bc3cd86ec7521", "33b6637d35e18a15"),
    ("refshapes", "val", 999): ("b933c6972becfaf3", "0e063227541639f0"),
    ("refshapes", "testA", 0): ("d71c8e008e72daff", "7e7a5478d170d112"),
    ("refshapes", "testA", 17): ("03f0e5e320c3c3b5", "4480e4a2c821e77a"),
    ("refshapes", "testA", 999): ("c287ef81831838ae", "c88560e378842634"),
    ("refshapes", "testB", 0): ("4be18921e0271455", "43f07eaea9ef78a3"),
    ("refshapes", "testB", 17): ("71c5e84aecd2f674", "bfb3cc42128a59d6"),
    ("refshapes", "testB", 999): ("406abeaddb2e338e", "d14d618bb2a74374"),
    ("refshapes+", "train", 0): ("dda0de4eeadf5a74", "4d65b190ddcbe09b"),
    ("refshapes+", "train", 17): ("9899b80700f2c2b2", "d6c5a6f20c1ab873"),
    ("refshapes+", "train", 123_456_789): ("2d80d987df4c7820", "0746e69fd26cb52f"),
    ("refshapes+", "val", 0): ("94817197f288a2dd", "dcabf53d657c2fa8"),
    ("refshapes+", "val", 17): ("5555b7861782ee61", "672d610872f81e51"),
    ("refshapes+", "val", 999): ("7646ac34d1b83b29", "80564b5b29478e65"),
    ("refshapes+", "testA", 0): ("d332a0e9b35dd62e", "f5a8a63e575a6706"),
    ("refshapes+", "testA", 17): ("dac03fa6c80faa48", "bd37023b4c0eae18"),
    ("refshapes+", "testA", 999): ("de603397057bd798", "5ffbead5f075a2ce"),
    ("refshapes+", "testB", 0): ("fe952cb66cb4bee8", "2f0fa13d96af911d"),
    ("refshapes+", "testB", 17): ("acee4e602cd7b66d", "75cff54a39e68fb3"),
    ("refshapes+", "testB", 999): ("8f7f9c8f748d458b", "8c8daf343f9a4321"),
    ("refshapesg", "train", 0): ("48c7f86967e0f782", "9a7091f045b7ff34"),
    ("refshapesg", "train", 17): ("ec50a64ca8f70448", "3a6bb41e3a0ff3e4"),
    ("refshapesg", "train", 123_456_789): ("6c8653e66bbbd155", "2726395aed01c3c6"),
    ("refshapesg", "val", 0): ("4b456e8d7e2ae4ba", "3d82d44726a25ffa"),
    ("refshapesg", "val", 17): ("bd4970f09f9617b1", "720df29fc4760fb0"),
    ("refshapesg", "val", 999): ("783eea9d4550df02", "6c047c64236f4e56"),
    ("refshapesg", "testA", 0): ("4615879e187a46d4", "21d4aba62523034c"),
    ("refshapesg", "testA", 17): ("7a4bbabc1b140ca3", "2de290bcb09c3b5d"),
    ("refshapesg", "testA", 999): ("c5f44b0cbfe38f33", "899023a4bf537e9b"),
    ("refshapesg", "testB", 0): ("9f86782365f653bb", "47720bd3dea470b0"),
    ("refshapesg", "testB", 17): ("7529f216dc9ddc4f", "90999b458ba36248"),
    ("refshapesg", "testB", 999): ("cb9130b445e3e363", "11ba5e7add32ca81"),
}


@pytest.mark.parametrize(("name", "split", "index"), GOLDEN)
def test_scenes_expressions_masks_and_pixels_are_the_published_ones(name: str, split: str, index: int) -> None:
    data = RefShapes(name, split)
    sample = data[index]
    content = hashlib.sha256(repr(astuple(data.scene(index))).encode())
    for expression in sample.expressions:
        content.update(f"{expression.kind}|{expression.reference}|{expression.text}\n".encode())
    for reference in sample.references:
        content.update(reference.mask.tobytes())
    pixels = hashlib.sha256(sample.image.tobytes())
    assert (content.hexdigest()[:16], pixels.hexdigest()[:16]) == GOLDEN[name, split, index]
