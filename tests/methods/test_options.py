"""Options that no preset switches on are held to the same rule of gradients, and run under every protocol of input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gradients import check_gradients
from refseg.methods import METHODS
from refseg.predictor import Predictor
from refseg.presets.base import override
from refseg.weights.store import Model
from tiny import TOKENIZER, tiny, tiny_model

OPTIONS = {
    "alignformer": (
        {"encoder_output": "residual_ln"}, {"pixel_decoder.mask_features": "fpn"}, {"loss_resolution": "full"},
        {"deep_supervision": True}, {"generator.self_attention": True}, {"cmic.reduce": "mean"},
    ),
    "crformer": (
        {"recon": "released"}, {"recon_detach_target": True}, {"recon": "released", "recon_detach_target": True},
        {"neck_style": "cris"}, {"neck_style": "cris", "encoder_output": "residual_ln"},
        {"neck_text": True, "neck_style": "cris"}, {"neck_text": True}, {"add_last": False},
        {"fusion_stages": (3, 4)}, {"fusion_stages": (1, 2, 3, 4)},
        {"head": "sentence_kernel"}, {"encoder_output": "updated"}, {"encoder_output": "residual_ln"},
        {"qgm": "released"}, {"language": "pooled"}, {"scale_queries": True}, {"block_layers": 2},
    ),
    "eavl": (
        {"estimator": "lean"}, {"upsampler": "cris"}, {"share_necks": True}, {"pool_residual": True},
        {"extra_norms": True}, {"neck_style": "cris"}, {"matrix_bias": True}, {"kernel_relu": False},
        {"upsampler": "single", "kernel_relu": False},
        {"neck_style": "cris", "share_necks": True}, {"scale_queries": True},
        {"estimator": "lean", "global_vision": False},
    ),
    "jmceln": (
        {"c5": "attnpool"}, {"boundary_sigmoid": True}, {"share_stages": True}, {"sine_positions": True}, {"window": 3},
    ),
    "lgformer": (
        {"pixel_decoder.mask_features": "fpn"}, {"encoder_output": "residual_ln"}, {"deep_supervision": True},
        {"head_bias": True}, {"chain_words": False}, {"generator.self_attention": True},
    ),
}  # fmt: skip
VARIANTS = [(method, changes) for method, some in OPTIONS.items() for changes in some]


@pytest.mark.parametrize(("method", "changes"), VARIANTS, ids=[f"{m}-{list(c.items())}" for m, c in VARIANTS])
def test_every_parameter_of_an_option_learns_or_is_known_not_to(method, changes):
    torch.manual_seed(0)
    check_gradients(METHODS[method][0](override(tiny(method).model, changes)))


def test_a_letterboxed_model_answers_at_the_images_own_size_and_ignores_its_borders():
    predictor = Predictor(tiny_model("eavl"), "cpu")
    assert predictor.model.input.resize == "letterbox"
    wide = np.random.default_rng(0).integers(0, 255, (40, 120, 3), dtype=np.uint8)
    found = predictor(wide, ["the red circle", "the square"])
    assert [x.mask.shape for x in found] == [(40, 120)] * 2
    # The network sees the mean colour above and below: painting it there by hand changes nothing inside.
    mean = np.round(np.array(predictor.model.input.mean) * 255).astype(np.uint8)
    square = np.broadcast_to(mean, (120, 120, 3)).copy()
    square[40:80] = wide
    inside = predictor(square, "the red circle").logits[40:80]
    assert np.abs(inside - found[0].logits).max() < 0.1 * np.abs(found[0].logits).max()


def test_the_printed_number_of_stages_runs_in_jmceln():
    preset = tiny("jmceln")
    torch.manual_seed(0)
    network = METHODS["jmceln"][0](override(preset.model, {"stages": 6})).train()
    pixels, tokens, mask = torch.randn(2, 3, 64, 64), torch.randint(5, 40, (2, 7)), torch.ones(2, 7, dtype=torch.bool)
    index, targets = torch.arange(2), torch.rand(2, 64, 64) > 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(network.encode_image(pixels), network.encode_text(tokens, mask), index)
        loss = sum(network.loss(output, targets).values())
    loss.backward()
    assert len(network.stages) == 6 and output.logits.shape == (2, 1, 64, 64)
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
    answer = Predictor(Model("six", "jmceln", network.eval(), preset.input, TOKENIZER, {}), "cpu")
    assert answer(np.zeros((50, 70, 3), np.uint8), "the circle", details=True).details["masks_by_stage"].shape[0] == 7
