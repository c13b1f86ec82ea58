from __future__ import annotations

from collections import Counter

import pytest

from refseg.methods import METHODS
from refseg.presets import TABLE, get_preset, preset_table, presets
from refseg.presets.base import override
from refseg.presets.describe import table_text
from refseg.weights.store import count_parameters


def test_every_distinct_model_of_the_papers_ablation_tables_has_one_preset():
    """51: LGFormer's and JMCELN's tables contain the main model, the others' have one of their own."""
    rows = [p for p in presets().values() if "/" in p.name and "-shapes" not in p.name and "Table 1" not in p.source]
    found = Counter(p.method for p in rows)
    found["lgformer"] += 1
    found["jmceln"] += 1
    assert found == {"alignformer": 5, "lgformer": 8, "eavl": 13, "jmceln": 6, "crformer": 19}
    models = [(p.method, p.model, p.recipe) for p in rows] + [
        (p.method, p.model, p.recipe) for p in (get_preset("lgformer"), get_preset("jmceln"))
    ]
    assert all(models.count(model) == 1 for model in models) and len(models) == 51


def test_every_method_has_its_paper_and_a_compact_version_and_every_ablation_exists_in_small():
    for method in METHODS:
        paper, compact = get_preset(method), get_preset(f"{method}-shapes")
        assert paper.scores and paper.encoders and compact.recipe.select == "mIoU"
        assert all(key.split()[-1] in {"oIoU", "mIoU"} or key.split()[-1].startswith("P@") for key in paper.scores)
        small = {p.name.split("/")[1] for p in presets().values() if p.name.startswith(f"{method}-shapes/")}
        large = {p.name.split("/")[1]: p for p in presets().values() if p.name.startswith(f"{method}/")}
        backbones = {"vit-b16", "vit-l14", "swin-s", "rn50", "epochs-25"}  # what the small versions have one of
        missing = {row for row in large if row not in small | backbones}
        assert all(row == "queries-8" and compact.model.num_queries == 8 for row in missing), missing


@pytest.mark.parametrize("method", METHODS)
def test_compact_versions_fit_into_the_package(method):
    preset = get_preset(f"{method}-shapes")
    network = METHODS[method][0](preset.model)
    assert 2 * count_parameters(network) < 5.9e6  # float16, of 6 MB


# Learning rate, weight decay, images of a step, score that selects, side, tokens and resizing, from the papers'
# sections on training and, where these are silent, from the code they build on.
LAVT_LIKE = (5e-5, 0.01, 32, "oIoU", 480, 20, "squash")
RECIPES = {
    "alignformer": LAVT_LIKE, "lgformer": LAVT_LIKE, "crformer": LAVT_LIKE, "lavt": LAVT_LIKE,
    "eavl": (1e-5, 0.0, 64, "mIoU", 480, 17, "letterbox"), "jmceln": (6e-6, 0.01, 20, "mIoU", 416, 30, "letterbox"),
}  # fmt: skip
EPOCHS = {"alignformer": 40, "lgformer": 40, "crformer": 40, "lavt": 40, "eavl": 100, "jmceln": 60}
# Tables of ablations: epochs, and the data set that they are on.
ROWS = {
    "alignformer": (40, "refcoco"), "lgformer": (40, "refcoco+"), "crformer": (25, "refcoco+"),
    "eavl": (50, "refcoco+"), "jmceln": (60, "refcoco"),
}  # fmt: skip
REFERENCES = {"refcoco": 42404, "refcoco+": 42278}
PAPER_SIZE = [preset for preset in presets().values() if not preset.compact]


@pytest.mark.parametrize("preset", PAPER_SIZE, ids=lambda preset: preset.name)
def test_recipes_are_the_papers(preset):
    recipe, seen = preset.recipe, preset.input
    assert seen.size[0] == seen.size[1]
    found = (recipe.lr, recipe.weight_decay, recipe.images_per_batch, recipe.select)
    assert (*found, seen.size[0], seen.max_tokens, seen.resize) == RECIPES[preset.method]
    assert (recipe.expressions_per_image, recipe.warmup, recipe.power, recipe.clip) == (1, 0, 0.9, 0.0)
    row = "/" in preset.name and "Table 1" not in preset.source
    epochs, data = ROWS[preset.method] if row else (EPOCHS[preset.method], "refcoco")
    assert (preset.epochs, preset.data) == (epochs, data)
    assert recipe.steps == epochs * (REFERENCES[data] // recipe.images_per_batch)  # whole batches, as their code
    assert not row or {key.split()[0] for key in preset.scores} <= {data}
    imagenet = seen.mean == (0.485, 0.456, 0.406) and seen.std == (0.229, 0.224, 0.225)
    assert imagenet == (preset.method not in ("eavl", "jmceln"))


@pytest.mark.parametrize("preset", PAPER_SIZE, ids=lambda preset: preset.name)
def test_what_is_trained_is_as_in_the_papers(preset):
    model = preset.model
    if preset.method in ("eavl", "jmceln"):
        assert model.head_lr_mult == 1.0
    else:
        layers = 12 if preset.method in ("alignformer", "lgformer") else 10
        assert (model.bert.layers, model.bert.trained_layers, model.bert.train_embeddings) == (12, layers, False)
        assert model.swin.drop_path == 0.3
    tokens = {"refcocog-umd": {"input.max_tokens": 22}, "refcocog-google": {"input.max_tokens": 22}}
    assert preset.by_data == (tokens if preset.method == "eavl" else {})
    for data in preset.by_data.values():
        assert override(preset, data).input.max_tokens == 22


def test_scores_that_are_no_targets_say_why():
    unusable = {preset.name: preset for preset in presets().values() if preset.unusable}
    assert set(unusable) == {
        "alignformer/no-interaction", "lgformer/query-learnable-1", "crformer/recon-0.2", "crformer/recon-0.15",
    }  # fmt: skip
    assert all(p.unusable.endswith("no target.") and p.note.endswith(p.unusable) for p in unusable.values())
    for reason, name in (
        ("16 queries", "crformer/recon-0.15"),
        ("8 queries", "crformer/recon-0.2"),
        ("lacks the numbers", "lgformer/query-learnable-1"),
        ("late fusion", "alignformer/no-int"),
    ):
        [found] = [preset for preset in unusable.values() if preset.name.startswith(name)]
        assert reason in found.unusable
    rows = [preset for preset in PAPER_SIZE if not preset.scores and not preset.unusable]
    assert {preset.name for preset in rows} == {"lgformer-released", "crformer-released"}


def test_override_changes_fields_together():
    config = get_preset("eavl").model
    changed = override(config, {"aligner": "fixed", "kernel_relu": False, "estimator": "off", "text.width": 256})
    assert (changed.aligner, changed.estimator, changed.text.width, changed.text.layers) == ("fixed", "off", 256, 12)
    with pytest.raises(ValueError, match="accepted is 'off'"):
        override(config, {"aligner": "fixed", "kernel_relu": False})


def test_unknown_names_are_refused_with_what_is_near():
    with pytest.raises(ValueError, match="did you mean 'crformer/queries-8'.* accepted are alignformer, "):
        get_preset("crformer/query-8")


def test_the_table_says_what_the_presets_say():
    """`python tools/preset_table.py` writes it anew."""
    assert TABLE.read_text(encoding="utf-8") == table_text()
    assert list(preset_table()) == list(presets())
