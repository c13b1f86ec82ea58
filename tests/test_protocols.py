from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from refseg.data.transforms import InputConfig, logits_to_image, logits_to_masks, target_of
from refseg.protocols import CRIS, LAVT, ORIGINAL, PROTOCOLS, Protocol, find_protocol
from refseg.scoring.metrics import Scored, Scores, iou_of

CONFIG = InputConfig((8, 8), (0.0,) * 3, (1.0,) * 3, 20)
BOXED = InputConfig((8, 8), (0.0,) * 3, (1.0,) * 3, 20, resize="letterbox")


def test_built_in_protocols_have_the_published_choices():
    assert list(PROTOCOLS) == ["original", "lavt", "lgformer", "crformer", "cris", "lisa", "gres"]
    facts = {
        name: (p.resolution, p.threshold, p.empty, p.iou_epsilon, p.precision_comparison, p.no_target)
        for name, p in PROTOCOLS.items()
    }
    assert facts == {
        "original": ("original", 0.5, 1, 0, ">=", "plain"),
        "lavt": ("network", 0.5, 0, 0, ">=", "plain"),
        "lgformer": ("network", 0.5, 0, 0, ">=", "plain"),
        "crformer": ("network", 0.36, 0, 0, ">=", "plain"),
        "cris": ("original", 0.35, 0, 1e-6, ">", "plain"),
        "lisa": ("original", 0.5, 1, 1e-5, ">=", "plain"),
        "gres": ("original", 0.5, 1, 0, ">=", "gres"),
    }
    assert [name for name, p in PROTOCOLS.items() if p.beyond == "zero"] == ["cris"]
    assert [name for name, p in PROTOCOLS.items() if p.align_corners] == ["lavt", "crformer", "cris"]
    assert PROTOCOLS["cris"].resized == "probabilities" and PROTOCOLS["cris"].interpolation == "bicubic"


def test_the_line_says_every_field():
    odd = Protocol("odd", "network", "probabilities", "bicubic", "direct", "threshold first", 0.36, ">=", 0.25, 1e-3,
                   ">", "gres", 50, ("gIoU", "N_acc"))  # fmt: skip
    for said in ("odd", "network size", "bicubic", "probability >= 0.36, then mask resized", "both empty 0.25",
                 "U + 0.001", "IoU > X", "gres", "below 50 pixels", "gIoU, N_acc"):  # fmt: skip
        assert said in odd.line
    assert "0 beyond the input" in CRIS.line and "beyond" not in odd.line
    assert "\n" not in odd.line and "bicubic with aligned corners, through network size" in CRIS.line


def test_lavt_enlarges_what_smaller_networks_answer_with_aligned_corners():
    logits = torch.tensor([[[[-3.0, -3.0], [1.0, 1.0]]]])  # rows 0 and 7 of 8 are -3 and 1: 0 is crossed at 5.25
    masks, _ = logits_to_masks(logits, (19, 13), CONFIG, LAVT)
    assert masks[0, :, 0].tolist() == [False] * 6 + [True] * 2
    edges, _ = logits_to_masks(logits, (19, 13), CONFIG, Protocol("p", "network"))  # rows 2 and 6: crossed at 4.5 + 0.5
    assert edges[0, :, 0].tolist() == [False] * 5 + [True] * 3


def test_a_file_defines_a_protocol_and_leaves_the_rest_as_in_original(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"name": "mine", "threshold": 0.36, "empty": 0, "metrics": ["oIoU"]}))
    assert find_protocol(str(path)) == Protocol("mine", threshold=0.36, empty=0.0, metrics=("oIoU",))
    path.write_text(json.dumps(CRIS.as_dict()))
    assert find_protocol(str(path)) == CRIS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        ('{"threshold": 0.3}', "no name"),
        ('{"name": "m", "treshold": 0.3}', "protocol with treshold: .* threshold"),
        ('{"name": "m", "threshold": 1.5}', "threshold 1.5: out of range"),
        (f'{{"name": "m", "threshold": {10**400}}}', "threshold 1000.*a value like 0.5"),
        ('{"name": "m", "threshold": "0.3"}', "threshold '0.3': a value like 0.5"),
        ('{"name": "m", "resized": "masks"}', "resized 'masks': unknown; accepted are logits, probabilities"),
        ('{"name": "m", "metrics": ["AP"]}', "metrics AP"),
        ('{"name": "m", "min_target_pixels": 0}', "min_target_pixels 0: out of range"),
        ('{"name": "m", "beyond": "zero"}', "beyond 'zero' with resized 'logits' .* probabilities at original size"),
        ('{"name": "lavt", "threshold": 0.3}', "the name of a built-in protocol"),
    ],
)
def test_what_is_no_protocol_is_refused(tmp_path, content, message):
    path = tmp_path / "mine.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        find_protocol(str(path))


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="protocol 'vlt': unknown; accepted are original, lavt, lgformer, crformer, "):
        find_protocol("vlt")
    with pytest.raises(ValueError, match="no such file"):
        find_protocol("none.json")


def test_original_is_what_a_user_sees():
    logits = torch.randn(3, 1, 4, 6)
    for config in (CONFIG, BOXED):
        masks, probabilities = logits_to_masks(logits, (21, 17), config)
        shown = logits_to_image(logits, (21, 17), config)
        assert torch.equal(masks, shown > 0) and torch.equal(probabilities, shown.sigmoid())


def test_resized_by_hand():
    # A row of two: log-odds -3 and 1. Four pixels across lie at 1/4 and 3/4 between the two, and on them at the ends.
    logits = torch.tensor([-3.0, 1.0]).expand(1, 1, 2, 2)
    masks, _ = logits_to_masks(logits, (2, 4), CONFIG, Protocol("a", threshold=0.5))
    assert masks[0, 0].tolist() == [False, False, False, True]  # -3, -2, 0, 1: 0 is on the threshold
    masks, _ = logits_to_masks(logits, (2, 4), CONFIG, Protocol("b", comparison=">="))
    assert masks[0, 0].tolist() == [False, False, True, True]
    likely = Protocol("c", resized="probabilities", threshold=0.3)
    # 0.0474 and 0.7311 give 0.2183 and 0.5602 between them; as log-odds, 0.3 lies at -0.847
    assert logits_to_masks(logits, (2, 4), CONFIG, likely)[0][0, 0].tolist() == [False, False, True, True]
    assert logits_to_masks(logits, (2, 4), CONFIG, Protocol("d", resized="probabilities", threshold=0.2))[0][
        0, 0
    ].tolist() == [False, True, True, True]
    first = Protocol("e", order="threshold first", interpolation="nearest", threshold=0.9)
    assert not logits_to_masks(logits, (2, 4), CONFIG, first)[0].any()
    first = Protocol("f", order="threshold first", interpolation="nearest")
    assert logits_to_masks(logits, (2, 4), CONFIG, first)[0][0, 0].tolist() == [False, False, True, True]


def test_lavt_compares_at_network_size_with_a_nearest_target():
    logits = torch.randn(2, 1, 2, 2)
    masks, _ = logits_to_masks(logits, (30, 20), CONFIG, LAVT)
    assert masks.shape == (2, 8, 8)
    target = np.zeros((16, 24), bool)
    target[:4, :12] = True
    assert np.array_equal(
        target_of(target, CONFIG, LAVT), np.arange(64).reshape(8, 8) % 8 < 4 * (np.arange(8) < 2)[:, None]
    )
    assert target_of(target, CONFIG, ORIGINAL) is target


def cubic_to(count, size):
    """(count, size) weights of the cubic with a = -0.75 that brings `size` samples to `count`; outside is 0."""
    distance = np.abs((np.arange(count)[:, None] + 0.5) * size / count - 0.5 - np.arange(size))
    near = 1.25 * distance**3 - 2.25 * distance**2 + 1
    far = -0.75 * distance**3 + 3.75 * distance**2 - 6 * distance + 3
    return torch.from_numpy(np.where(distance <= 1, near, np.where(distance < 2, far, 0))).float()


def test_cris_goes_through_network_size_with_cubics_and_fades():
    logits = 3 * torch.randn(2, 1, 4, 4)
    resize = torch.nn.functional.interpolate
    network = resize(logits.sigmoid(), (8, 8), mode="bicubic", align_corners=True)
    own = (cubic_to(19, 8) @ network @ cubic_to(13, 8).T)[:, 0]
    masks, probabilities = logits_to_masks(logits, (19, 13), CONFIG, CRIS)
    torch.testing.assert_close(probabilities, own.clamp(0, 1), rtol=1e-4, atol=1e-5)
    assert torch.equal(masks[(own - 0.35).abs() > 1e-4], own[(own - 0.35).abs() > 1e-4] > 0.35)
    boxed, _ = logits_to_masks(logits, (8, 8), BOXED, CRIS)  # an image of the network's own size is not moved
    assert torch.equal(boxed, network[:, 0] > 0.35)


def test_a_letterbox_is_taken_off_in_every_interpolation():
    # 4 x 8 in 8 x 8: rows 2 to 5 are the image, the borders are foreground that nobody may see.
    logits = torch.full((1, 1, 8, 8), 9.0)
    logits[:, :, 2:6] = -9.0
    for interpolation in ("nearest", "bilinear", "bicubic"):
        masks, _ = logits_to_masks(logits, (4, 8), BOXED, Protocol("p", interpolation=interpolation))
        assert masks.shape == (1, 4, 8) and not masks.any()


@pytest.mark.parametrize(("name", "threshold"), [("lgformer", 0.5), ("crformer", 0.36)])
def test_masks_follow_from_the_logits_of_the_released_systems(reference, name, threshold):
    """From what their networks give at stride 4 to the masks that their test scripts compare."""
    numbers, protocol = reference(f"{name}_released"), PROTOCOLS[name]
    logits = numbers["output.logits"]  # (B, 1, H, W), resized by their own code
    small = numbers["output.masks_stride4"][:, -1:] if name == "lgformer" else numbers["output.logits_stride4"]
    size = (logits.shape[2], logits.shape[3])
    config = InputConfig.of_answers(size, "squash")
    masks, probabilities = logits_to_masks(small.reshape(len(logits), 1, *small.shape[-2:]), (33, 77), config, protocol)
    torch.testing.assert_close(probabilities, logits[:, 0].sigmoid(), rtol=1e-4, atol=1e-4)
    sure = (logits[:, 0].sigmoid() - threshold).abs() > 1e-4
    assert torch.equal(masks[sure], (logits[:, 0].sigmoid() > threshold)[sure]) and sure.float().mean() > 0.99
    assert masks.any() and not masks.all()
    assert iou_of(Scored("s", "i", 0, 0, 0), protocol) == 0.0
    hit = Scored("s", "i", 5, 5, 10)  # an IoU of exactly 0.5 counts
    assert Scores([hit], protocol).summary()["P@0.5"] == 1.0
