from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from refseg.encoders.swin import _kept_shift_mask
from refseg.methods import METHODS
from refseg.presets import get_preset, presets
from refseg.training import plan
from refseg.training.memory import RUNTIME, StepMemory, _Kept, network_without_values, step_memory
from refseg.training.plan import plan_report, plan_table
from refseg.training.recompute import recompute_blocks
from tiny import some_input, tiny, tiny_network

# README: parameters and trained parameters in millions, and peak GB of forward and backward of one photo with two
# expressions, without an optimiser.
PAPER_SIZE = {
    "alignformer": (263.1, 239.2, 7.5),
    "lgformer": (266.2, 242.4, 8.0),
    "lgformer-released": (273.2, 249.4, 8.8),
    "eavl": (155.1, 155.1, 2.9),
    "eavl/vit-b16": (191.4, 191.4, 3.1),
    "eavl/vit-l14": (474.1, 474.1, 6.0),
    "jmceln": (243.6, 243.6, 7.1),
    "crformer": (228.2, 190.2, 5.7),
    "crformer-released": (267.6, 229.0, 7.6),
    "lavt": (227.7, 189.7, 5.5),
}
GIVEN = StepMemory(
    weights=10**9, gradients=0, optimiser=0, averaging=0, activations_fixed=0, activations_per_image=10**9,
    working_per_image=0,
)  # fmt: skip


@pytest.fixture
def no_forward(monkeypatch):
    """Plans without their forward passes: 0.6 GB of runtime, 1 GB of weights, 1.1 GB for every image."""
    monkeypatch.setattr(plan, "step_memory", lambda *_: GIVEN)


def really_kept(network, images):
    """Bytes that autograd keeps of a real forward pass of a tiny network, told apart by where they lie."""
    held = {x.untyped_storage().data_ptr() for x in [*network.parameters(), *network.buffers()]}
    kept = {}

    def note(x):
        if (place := x.untyped_storage().data_ptr()) not in held:
            kept[place] = (x.untyped_storage().nbytes(), x)  # x stays alive, so that no place is used twice
        return x

    pixels, _, _, index, targets = some_input(images, images)
    tokens = torch.randint(5, 20, (images, 20))
    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        image = network.encode_image(pixels)
        output = network(image, network.encode_text(tokens, torch.ones_like(tokens, dtype=torch.bool)), index)
        sum(network.loss(output, targets).values())
    return sum(size for size, _ in kept.values())


def printed(report):
    console = Console(width=110, file=io.StringIO())
    console.print(*plan_table(report))
    return " ".join(console.file.getvalue().replace("│", " ").split())


def test_what_autograd_keeps_counts_once_and_parameters_do_not():
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    kept = _Kept(network)
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda x: x):
        network(torch.randn(5, 4))
    assert kept.bytes == 5 * (4 + 8) * 4  # the input, and what is both the ReLU's result and the second layer's input
    assert kept.largest == 5 * 8 * 4


@pytest.mark.parametrize(
    ("name", "again"),
    [("lgformer", False), ("jmceln", False), ("jmceln", True), ("crformer-released", False), ("lavt", True)],
)  # fmt: skip
@pytest.mark.slow
def test_activations_are_those_of_a_real_forward_pass(name, again):
    network = tiny_network(name).train()
    if again:
        recompute_blocks(network)
    expected = really_kept(network, 3) - really_kept(network, 2)
    found = step_memory(tiny(name), gradient_checkpointing=again)
    assert found.activations_per_image == pytest.approx(expected, rel=0.03)
    weights = sum(p.nbytes for p in network.parameters())
    assert found.weights >= weights and found.gradients <= weights and found.optimiser == 2 * found.gradients


@pytest.mark.slow
def test_pixels_that_only_values_could_choose_count_as_all():
    expected = really_kept(tiny_network("alignformer").train(), 3) - really_kept(tiny_network("alignformer"), 2)
    assert expected < step_memory(tiny("alignformer")).activations_per_image < 1.3 * expected


def test_checkpointing_keeps_less_but_the_inside_of_the_largest_block_for_a_moment():
    plain, again = (step_memory(tiny("lavt"), gradient_checkpointing=asked) for asked in (False, True))
    assert again.activations_per_image < 0.6 * plain.activations_per_image
    assert again.working_per_image > plain.working_per_image
    assert again.total(8) < plain.total(8)


@pytest.mark.slow
def test_half_precision_halves_what_it_touches_and_keeps_weights_of_its_own():
    full, half = (step_memory(tiny("lavt"), precision=precision) for precision in ("fp32", "bf16"))
    assert 0.5 * full.activations_per_image < half.activations_per_image < 0.9 * full.activations_per_image
    assert full.activations_fixed < 0.15 * full.weights  # query, key and value of every window as one matrix
    assert 0.2 * full.weights < half.activations_fixed <= 0.6 * full.weights
    assert step_memory(tiny("lavt"), precision="fp16") == half


def test_several_processes_hold_the_gradients_once_more():
    one, two = step_memory(tiny("lavt")), step_memory(tiny("lavt"), processes=2)
    assert two == replace(one, averaging=one.gradients) and one.averaging == 0


def test_every_moment_of_a_step_has_room():
    memory = StepMemory(100, 40, 80, 40, 10, 20, 5)
    assert memory.total(3) == round(RUNTIME) + 260 + 77 + 15  # a tenth more than 10 + 3 * 20, and 3 * 5
    assert replace(memory, activations_per_image=0).total(1) == round(RUNTIME) + 260 + 40  # the optimiser's own moment


def test_a_plan_leaves_nothing_behind():
    before = _kept_shift_mask.cache_info()
    plan_report(tiny("lavt"))
    assert _kept_shift_mask.cache_info() == before
    assert really_kept(tiny_network("lavt"), 2) > 0


@pytest.mark.parametrize("name", PAPER_SIZE)
def test_parameters_are_those_of_the_readme(name, no_forward):
    report = plan_report(get_preset(name))
    assert (round(report["parameters"] / 1e6, 1), round(report["trained"] / 1e6, 1)) == PAPER_SIZE[name][:2]
    assert sum(group["parameters"] for group in report["groups"]) == report["trained"]


@pytest.mark.parametrize("name", [name if name == "eavl/vit-b16" else pytest.param(name, marks=pytest.mark.slow)
                                  for name in PAPER_SIZE])  # fmt: skip
def test_the_estimate_is_near_what_was_measured(name):
    preset = get_preset(name)
    memory = step_memory(replace(preset, recipe=replace(preset.recipe, expressions_per_image=2)))
    # Measured without gradients of an earlier part, which is where a model of many weights needs less.
    assert 0.9 < (memory.total(1) - memory.optimiser) / 1e9 / PAPER_SIZE[name][2] < 1.35


@pytest.mark.slow
def test_the_estimate_is_near_crformers_log():
    """27.8 GB for 8 images on each of 4 GPUs, of a torch whose attention kept more."""
    assert 0.8 < step_memory(get_preset("crformer-released"), processes=4).total(8) / 27.8e9 < 1.2


@pytest.mark.slow
def test_every_preset_has_a_plan(no_forward, monkeypatch):
    monkeypatch.setattr(plan, "network_without_values", lambda preset: tiny_network(preset.name))
    for preset in presets().values():
        report = plan_report(preset, gpu_memory=24)
        assert json.loads(json.dumps(report)) == report
        assert (
            report["gpu"]["fits"] and report["gpu"]["accumulate"] * report["gpu"]["images"] >= report["images_per_step"]
        )
        assert [f"{s['data']} {s['split']} {s['metric']}" for s in report["scores"]] == list(preset.scores)
        assert not report["changed"]
        text = printed(report)
        assert preset.name in text and all(f"{score:.2f}" in text for score in preset.scores.values())
        if preset.unusable:
            assert f"unusable {preset.unusable}" in text and text.count(preset.unusable) == 1
        elif not preset.scores:
            assert "no paper prints one" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", presets())
def test_every_preset_has_a_plan_with_its_activations(name):
    memory = plan_report(get_preset(name))["memory"]
    assert memory["activations_per_expression"] > 3e6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.slow
def test_a_plan_of_every_method_with_its_activations(method):
    report = plan_report(get_preset(f"{method}-shapes"), references=3250)
    assert 5e6 < report["memory"]["activations_per_expression"] < 1e8
    assert report["references"] == {"references": 3250, "unit": "images", "epochs": 32.0, "steps": None}
    assert (report["images_per_step"], report["expressions_per_step"], report["data"]) == (16, 32, [])


@pytest.mark.parametrize(("gpu", "processes"), [(10, 1), (10, 4), (3, 2), (100, 1), (24, 5)])
def test_a_step_is_divided_no_more_than_needed(gpu, processes, no_forward):
    fit = plan_report(get_preset("crformer"), gpu, processes)["gpu"]
    fitting = int((gpu - 1.6) / 1.1)  # images
    choices = [
        (accumulate, len(np.array_split(range(32), processes * accumulate)[0]))
        for accumulate in range(1, 32 // processes + 1)
    ]
    expected = next(choice for choice in choices if choice[1] <= fitting)
    assert fit["fits"] and (fit["accumulate"], fit["images"], fit["expressions"]) == (*expected, expected[1])
    assert fit["bytes"] == pytest.approx(1.6e9 + 1.1e9 * fit["images"])
    assert fit["bytes"] <= gpu * 1e9


def test_what_does_not_fit_is_said_with_what_helps(no_forward):
    report = plan_report(get_preset("crformer"), 2.5)
    assert not report["gpu"]["fits"]
    assert report["gpu"]["helps"] == ["--precision bf16", "--gradient-checkpointing", "a GPU of more than 2.7 GB"]
    assert "not even the smallest micro-batch fits; what helps: --precision bf16, --grad" in printed(report)
    report = plan_report(get_preset("crformer"), 2.5, precision="bf16", gradient_checkpointing=True)
    assert report["gpu"]["helps"] == ["a GPU of more than 2.7 GB"]


@pytest.mark.parametrize(("name", "needs"), [("jmceln", 2), ("eavl", 2), ("crformer-released", 2), ("crformer", 1)])
def test_a_batch_norm_over_sentences_needs_two_of_them(name, needs, no_forward):
    report = plan_report(get_preset(name))
    assert report["divisions"][-1]["expressions"] == needs
    assert ("over sentences needs 2 expressions" in report["batch_statistics"]) == (needs == 2)
    assert "not of the whole step" in report["batch_statistics"]
    many = report["images_per_step"]
    if needs == 1:
        assert plan_report(get_preset(name), processes=many)["divisions"][0]["images"] == 1
    else:
        with pytest.raises(ValueError, match=f"{many} processes: .* at most {many // 2} are accepted"):
            plan_report(get_preset(name), processes=many)
    assert "all processes together" in plan_report(get_preset(name), processes=2)["batch_statistics"]


def test_a_method_without_batch_norm_says_nothing_of_it(no_forward):
    assert plan_report(get_preset("lgformer"))["batch_statistics"] == ""


def test_epochs_of_the_papers_data_sets_and_of_ones_own(no_forward):
    report = plan_report(get_preset("eavl"), references=6401)
    assert [(data["data"], data["steps"], data["settings"]) for data in report["data"]] == [
        ("refcoco", 66200, {}),
        ("refcoco+", 66000, {}),
        ("refcocog-umd", 65900, {"input.max_tokens": 22}),
    ]
    assert "refcocog-umd 100 epochs of 42,226 references: --steps 65900 --set input.max_tokens=22" in printed(report)
    own = report["references"]
    assert report["steps"] == own["steps"] == 100 * 100 and own["unit"] == "references"
    assert "100.0 epochs of 6,401 references" in printed(report) and "as many epochs" not in printed(report)
    report = plan_report(get_preset("eavl"), references=6401, steps=66200)
    assert report["steps"] == 66200 and report["references"]["epochs"] == pytest.approx(66200 * 64 / 6401)
    assert "661.9 epochs of 6,401 references; as many epochs as in the paper: --steps 10000" in printed(report)
    rows = {name: plan_report(get_preset(name))["data"] for name in ("lgformer/layers-3", "crformer/recon-0.2")}
    assert {name: [(x["data"], x["epochs"], x["steps"]) for x in data] for name, data in rows.items()} == {
        "lgformer/layers-3": [("refcoco+", 40, 52840)],
        "crformer/recon-0.2": [("refcoco+", 25, 33025)],
    }


def test_a_changed_preset_is_called_one(no_forward):
    preset = get_preset("lavt")
    report = plan_report(replace(preset, recipe=replace(preset.recipe, lr=1e-4, warmup=10, clip=1.0)))
    assert report["changed"] == ["recipe"] and "changed recipe: scores" in printed(report)
    assert {group["lr"] for group in report["groups"]} == {1e-4}
    assert report["schedule"] == "grows from 0 over 10 steps, falls as (1 - step / 53000) ** 0.9"


def test_metrics_are_named_and_never_mixed(no_forward):
    text = printed(plan_report(get_preset("lgformer")))
    assert "overall IoU" in text and "mean IoU" in text and "P@X precision" in text
    text = printed(plan_report(get_preset("jmceln")))
    assert "overall IoU" not in text and "mean IoU" in text
    assert "The paper's metric is called IoU" in printed(plan_report(get_preset("eavl/queries-8")))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"gpu_memory": 0.0}, "GPU memory 0.0: a positive number of GB"),
        ({"gpu_memory": float("nan")}, "GPU memory nan"),
        ({"processes": 0}, "0 processes: 1 to 32"),
        ({"processes": 33}, "33 processes: 1 to 32"),
        ({"precision": "int8"}, "precision 'int8': unknown; accepted are fp32, bf16, fp16"),
        ({"references": 0}, "0 references: at least 1"),
    ],
)
def test_what_cannot_be_planned_is_refused(asked, message, no_forward):
    with pytest.raises(ValueError, match=message):
        plan_report(get_preset("lavt"), **asked)


def test_a_network_without_values_has_the_names_and_shapes_of_the_real_one():
    abstract, real = network_without_values(tiny("jmceln")), tiny_network("jmceln")
    assert {k: v.shape for k, v in abstract.state_dict().items()} == {k: v.shape for k, v in real.state_dict().items()}
    assert all(x.is_meta for x in abstract.parameters())
