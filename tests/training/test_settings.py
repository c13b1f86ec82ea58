from __future__ import annotations

import pytest

from refseg.presets import get_preset
from refseg.training.settings import own_steps, with_settings


def test_settings_reach_into_model_input_and_recipe():
    preset = get_preset("alignformer")
    changed = with_settings(
        preset, ["recipe.lr=1e-4", "input.max_tokens=22", "model.swin.depths=[2, 2, 6, 2]", "model.cmic.weight=0",
                 "recipe.select=mIoU"]
    )  # fmt: skip
    assert changed.recipe.lr == 1e-4 and changed.input.max_tokens == 22 and changed.recipe.select == "mIoU"
    assert changed.model.swin.depths == (2, 2, 6, 2) and changed.model.cmic.weight == 0.0
    assert isinstance(changed.model.cmic.weight, float)
    assert changed.model.bert == preset.model.bert and changed.name == preset.name
    assert with_settings(preset, []) == preset


def test_other_data_get_as_many_epochs_as_the_papers():
    lgformer, small = get_preset("lgformer"), with_settings(get_preset("lgformer"), ["recipe.images_per_batch=8"])
    assert own_steps(lgformer, 42404) == lgformer.recipe.steps == 40 * 1325
    assert own_steps(lgformer, 100) == 40 * 3 and own_steps(lgformer, 31) == 40  # whole batches, and one at least
    assert own_steps(small, 100) == 40 * 12
    assert own_steps(get_preset("eavl/rn50"), 6400) == 50 * 100
    assert own_steps(lgformer, None) == 40 * 1325  # data without an end
    assert own_steps(with_settings(lgformer, ["recipe.steps=7"]), 100) == 7  # what is said counts
    assert own_steps(get_preset("lgformer-shapes"), 100) == 6500  # its steps are ours


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("lr", "KEY=VALUE is accepted"),
        ("recipe=1", "KEY=VALUE is accepted"),
        ("data.name=x", "below model, input, recipe"),
        ("recipe.rate=1", "recipe has no field 'rate'; it has steps"),
        ("model.swin.colour=1", "model.swin has no field 'colour'; it has embed_dim"),
        ("recipe.lr.x=1", "recipe.lr has no field 'x'; it is a value"),
        ("recipe.lr=fast", "recipe.lr: 'fast'; a number is accepted"),
        ("recipe.steps=1.5", "recipe.steps: 1.5"),
        ("recipe.select=accuracy", "recipe.select: 'accuracy'"),
        ("recipe.images_per_batch=0", "images_per_batch 0: a whole number from 1 is accepted"),
        ("recipe.lr=-1", "lr -1.0: a number from 0 is accepted"),
        ("recipe.lr=Infinity", "recipe.lr: 'Infinity'; a number is accepted"),
        ("recipe.warmup=-5", "warmup -5: a whole number from 0 is accepted"),
        ("input.size=480", "input.size: 480"),
        ("model.swin.window=7.5", "model.swin.window: 7.5"),
    ],
)
def test_what_cannot_be_set_is_said(setting, message):
    with pytest.raises(ValueError, match="^--set '" + setting.partition("=")[0]) as error:
        with_settings(get_preset("alignformer"), [setting])
    assert message in str(error.value)
