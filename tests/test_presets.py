from __future__ import annotations

from collections import Counter

import pytest

from refseg.methods import METHODS
from refseg.presets import get_preset, override, presets
from refseg.weights import count_parameters


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


def test_override_changes_fields_together():
    config = get_preset("eavl").model
    changed = override(config, {"aligner": "fixed", "estimator": "off", "text.width": 256})
    assert (changed.aligner, changed.estimator, changed.text.width, changed.text.layers) == ("fixed", "off", 256, 12)
    with pytest.raises(ValueError, match="accepted is 'off'"):
        override(config, {"aligner": "fixed"})


def test_unknown_names_are_refused_with_what_is_near():
    with pytest.raises(ValueError, match="did you mean 'crformer/queries-8'.* accepted are alignformer, "):
        get_preset("crformer/query-8")
