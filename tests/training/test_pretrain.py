"""Pretraining: what is read, what is asked, that it goes on to the bit, and that methods start from it."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch

from refseg.data.shapes.plain import plain_scene
from refseg.encoders.clip import ClipResNetConfig, ClipTextConfig, ClipViTConfig
from refseg.presets import get_preset
from refseg.presets.base import override, shapes_clip_tokenizer, shapes_tokenizer
from refseg.training.config import Run, read_run
from refseg.training.pretrain import PretrainingBatches, encoder_preset, encoder_presets, pretrain
from refseg.training.towers import PretrainingBatch, Towers, TowersConfig
from refseg.weights.folders import ENCODERS
from refseg.weights.start import fresh_start
from refseg.weights.store import load_model, read_tensors

TEXT = ClipTextConfig(vocab=shapes_clip_tokenizer().size, width=24, layers=1, heads=2, joint=16, positions=28)
RESNET = ClipResNetConfig((1, 1, 1, 1), width=4, heads=2, joint=16, grid=2)


def small(name):
    """A pretraining with small towers and small pictures."""
    preset = encoder_presets()[name]
    changes = {
        "swin-shapes": {"vision.embed_dim": 8, "vision.depths": (1, 1, 1, 1), "vision.heads": (1, 1, 2, 2)},
        "bert-shapes": {"text.width": 24, "text.layers": 1, "text.heads": 2, "text.ffn": 32},
        "clip-shapes": {"vision": RESNET, "text": TEXT},
        "clip-vit-shapes": {"vision": ClipViTConfig(24, 1, 2, 16, 16, 4), "text": TEXT},
    }[name]
    recipe = replace(preset.recipe, images_per_batch=4, steps=4, warmup=0)
    inputs = replace(preset.input, size=(64, 64))
    return replace(preset, model=override(preset.model, changes), recipe=recipe, input=inputs)


def some_batches(name, **changes):
    preset = small(name)
    tokenizer = shapes_tokenizer() if name in ("swin-shapes", "bert-shapes") else shapes_clip_tokenizer()
    return PretrainingBatches(preset.model, preset.input, tokenizer, 4, 0, 10, **changes)


def test_the_names_are_those_of_the_command_line():
    assert tuple(encoder_presets()) == ENCODERS


@pytest.mark.parametrize("name", ENCODERS)
def test_a_step_reads_the_same_however_it_is_divided(name):
    whole = some_batches(name)[3]
    divided = [part for rank in range(2) for part in some_batches(name, rank=rank, processes=2)[3]]
    assert len(whole) == 1 and len(divided) == 2
    assert sum((part.ids for part in divided), ()) == whole[0].ids == tuple(f"train-{i:06d}" for i in range(12, 16))
    if whole[0].pixels is not None:
        assert torch.equal(torch.cat([part.pixels for part in divided]), whole[0].pixels)
    if whole[0].said is not None:
        assert torch.equal(torch.cat([part.said for part in divided]), whole[0].said)
    with pytest.raises(ValueError, match="at least one for each"):
        some_batches(name, processes=5)


def test_pixels_say_what_the_scene_says_at_their_place():
    (batch,) = some_batches("clip-shapes")[1]
    assert batch.objects.shape == (4, 16, 16) and batch.looks.shape[0] - 1 == len(batch.said) == len(batch.tokens)
    before = 0
    for place, index in enumerate(range(4, 8)):
        scene = plain_scene("train", index, (64, 64))
        for row, column in ((2, 3), (8, 8), (15, 1), (10, 12)):
            own = scene.ids[4 * row + 2, 4 * column + 2]
            expected = own + before if own else 0
            assert batch.objects[place, row, column] == expected
            assert batch.looks[expected].tolist() == scene.looks[own].tolist()
        before += len(scene.descriptions)


def test_some_words_are_hidden_and_the_answers_are_what_stood_there():
    shown = hidden = masked = kept = 0
    vocabulary = shapes_tokenizer().vocabulary
    for step in range(12):
        (batch,) = some_batches("bert-shapes")[step]
        asked = batch.hidden >= 0
        assert asked.any(1).all() and not (asked & ~batch.token_mask).any()
        special = torch.tensor([vocabulary[name] for name in ("[CLS]", "[SEP]", "[PAD]")])
        assert not torch.isin(batch.hidden[asked], special).any()
        assert (batch.tokens[:, 0] == vocabulary["[CLS]"]).all()
        shown += int(batch.token_mask.sum()) - 2 * len(asked)
        hidden += int(asked.sum())
        masked += int((batch.tokens[asked] == vocabulary["[MASK]"]).sum())
        kept += int((batch.tokens[asked] == batch.hidden[asked]).sum())
    assert 0.13 < hidden / shown < 0.25 and 0.7 < masked / hidden < 0.9 and 0.02 < kept / hidden < 0.2


def test_from_cls_alone_the_words_of_the_whole_sentence_are_named():
    torch.manual_seed(0)
    towers = Towers(small("bert-shapes").model).double()
    (batch,) = some_batches("bert-shapes")[0]
    says = towers.sentence(towers.text_encoder(batch.tokens, batch.token_mask).words[:, 0])
    total, words, both, either = 0.0, 0, 0, 0
    for row, logits in enumerate(says.tolist()):
        whole = [
            h if h >= 0 else t for h, t in zip(batch.hidden[row].tolist(), batch.tokens[row].tolist(), strict=True)
        ]
        has = {token for token, real in zip(whole, batch.token_mask[row].tolist(), strict=True) if real}
        words += len(has)
        for word, logit in enumerate(logits):
            total += math.log1p(math.exp(-logit if word in has else logit))
            both += word in has and logit > 0
            either += word in has or logit > 0
    found = towers(batch)
    assert found.terms["sentence"].item() == pytest.approx(total / words, rel=1e-6)
    assert (found.right["sentence"].item(), found.asked["sentence"].item()) == (both, either)
    assert not any(name.startswith(("sentence.", "words.")) for name in towers.pretrained())


@pytest.mark.parametrize("name", ENCODERS)
def test_every_parameter_learns_from_the_first_step(name):
    torch.manual_seed(0)
    towers = Towers(small(name).model).double()
    (batch,) = some_batches(name)[0]
    if batch.pixels is not None:
        batch = PretrainingBatch(**(vars(batch) | {"pixels": batch.pixels.double()}))
    sum(towers(batch).terms.values()).backward()
    # What a softmax takes out again, and [PAD], the pooled vector's own and the words that were not read.
    known = ("key.bias", "k_proj.bias")
    lost = [k for k, p in towers.named_parameters()
            if (p.grad is None or p.grad.abs().max() < 1e-12) and not k.endswith(known)]  # fmt: skip
    assert not lost


def test_pairs_by_hand():
    """Three objects, of which the second description fits two; every number from plain Python."""
    torch.manual_seed(1)
    towers = Towers(TowersConfig(RESNET, TEXT))
    looks = torch.tensor([[0, 0, 0, 0], [1, 2, 1, 1], [1, 3, 1, 1], [4, 2, 2, 1]])
    objects = torch.tensor([[[1, 1, 0, 2], [1, 0, 0, 2], [0, 3, 3, 0], [0, 3, 0, 0]]])
    said = torch.tensor([[True, True, False, False], [True, False, False, False], [True, True, True, False]])
    joint, sentences = torch.randn(1, 16, 4, 4), torch.randn(3, 16)

    class Told(torch.nn.Module):
        def forward(self, tokens, mask):
            return type("Text", (), {"sentence": sentences})

    towers.text_encoder = Told()
    batch = PretrainingBatch(("a",), objects=objects, looks=looks, said=said)
    found = type("Found", (), {"terms": {}, "right": {}, "asked": {}})()
    towers._learn_pairs(joint, batch, found)

    def unit(vector):
        return [x / math.sqrt(sum(y * y for y in vector)) for x in vector]

    places = {n: [(r, c) for r in range(4) for c in range(4) if objects[0, r, c] == n] for n in (1, 2, 3)}
    means = [unit([sum(float(joint[0, k, r, c]) for r, c in places[n]) / len(places[n]) for k in range(16)])
             for n in (1, 2, 3)]  # fmt: skip
    texts = [unit(row) for row in sentences.tolist()]
    scores = [[10 * sum(a * b for a, b in zip(o, t, strict=True)) for t in texts] for o in means]
    fits = [[1, 1, 0], [0, 1, 0], [0, 0, 1]]  # "red circle", "circle", "small red star"

    def term(table, right):
        total = 0.0
        for row, good in zip(table, right, strict=True):
            norm = math.log(sum(math.exp(x) for x in row))
            total -= sum((x - norm) * g for x, g in zip(row, good, strict=True)) / sum(good)
        return total / len(table) / 2

    def turned(table):
        return [list(column) for column in zip(*table, strict=True)]

    assert found.terms["to_text"].item() == pytest.approx(term(scores, fits), rel=1e-5)
    assert found.terms["to_object"].item() == pytest.approx(term(turned(scores), turned(fits)), rel=1e-5)


def run_of(name, out, **changes):
    return Run(preset=small(name), data=("refshapes",), out=out, workers=0, eval_every=2, save_every=2, device="cpu",
               eval_limit=1, **changes)  # fmt: skip


@pytest.mark.parametrize("name", ["swin-shapes", "bert-shapes", "clip-shapes"])
def test_a_stopped_pretraining_goes_on_to_the_bit(name, tmp_path):
    pretrain(run_of(name, tmp_path / "whole"))

    def stop(step, steps, losses):
        if step == 2:
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        pretrain(replace(run_of(name, tmp_path / "parts"), save_every=1), report=stop)
    # The checkpoint of step 1 is the last whole one.
    last = pretrain(replace(run_of(name, tmp_path / "parts"), save_every=1), resume=True)
    one, two = (read_tensors(folder / "model.safetensors") for folder in (tmp_path / "whole" / "last", last))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    assert {x.dtype for x in one.values()} <= {torch.float16, torch.int64}
    told = json.loads((last / "config.json").read_text())
    assert told["encoders"] == name and told["training"]["steps"] == 4 and 0 <= told["training"]["val"]["mean"] <= 1


def test_what_pretraining_wrote_is_where_methods_start(tmp_path):
    for name in ("swin-shapes", "bert-shapes", "clip-shapes"):
        preset = encoder_presets()[name]
        run = replace(run_of(name, tmp_path / "runs" / name), steps=1)
        recipe = replace(preset.recipe, images_per_batch=1)
        folder = pretrain(replace(run, preset=replace(preset, recipe=recipe)))
        (tmp_path / name).symlink_to(folder)
    for method in ("lgformer", "crformer", "jmceln", "eavl"):
        start = fresh_start(get_preset(f"{method}-shapes"), 0, tmp_path, ())
        network = start.model.network
        clip = method in ("jmceln", "eavl")
        assert start.source == f"encoders of {'clip-shapes' if clip else 'swin-shapes, bert-shapes'}"
        own = network.state_dict()
        for name in ("clip-shapes",) if clip else ("swin-shapes", "bert-shapes"):
            given = read_tensors(tmp_path / name / "model.safetensors")
            used = [key for key in given if key in own]
            resized = {key for key in used if own[key].shape != given[key].shape}
            assert resized <= {"encoder.attnpool.positional_embedding"}  # of a picture of another size
            assert all(torch.equal(own[key], given[key].to(own[key].dtype)) for key in used if key not in resized)
            left = [key for key in given if key not in own]
            assert all("attnpool" in key for key in left) and (not left or method == "jmceln")


def test_what_goes_wrong_is_said(tmp_path):
    run = run_of("bert-shapes", tmp_path / "run", steps=1)
    folder = pretrain(run)
    with pytest.raises(ValueError, match="holds a run already"):
        pretrain(run)
    with pytest.raises(ValueError, match="pretrained encoders, bert-shapes; `refseg train PRESET --encoders`"):
        load_model(str(folder))
    assert replace(read_run(tmp_path / "run", encoder_preset), out=run.out) == run
    with pytest.raises(ValueError, match="a pretraining; `refseg pretrain bert-shapes --resume` goes on"):
        read_run(tmp_path / "run")
    with pytest.raises(ValueError, match="holds no swin-shapes/model.safetensors"):
        fresh_start(get_preset("lgformer-shapes"), 0, tmp_path, ())
    damaged = tmp_path / "damaged" / "bert-shapes"
    shutil.copytree(folder, damaged)
    shutil.copytree(folder, damaged.parent / "swin-shapes")
    config = json.loads((damaged / "config.json").read_text())
    (damaged.parent / "swin-shapes" / "config.json").write_text(json.dumps(config | {"sha256": "0"}))
    with pytest.raises(ValueError, match="its SHA-256 is not the one"):
        fresh_start(get_preset("lgformer-shapes"), 0, damaged.parent, ())
    with pytest.raises(ValueError, match="starts at random"):
        pretrain(replace(run, out=tmp_path / "other", data=("refshapesg",)))
    (tmp_path / "swin-shapes").symlink_to(folder)
    (tmp_path / "bert-shapes").symlink_to(folder)
    with pytest.raises(ValueError, match="text_encoder of swin-shapes: does not fit"):  # widths of the small one
        fresh_start(get_preset("lgformer-shapes"), 0, tmp_path, ())
