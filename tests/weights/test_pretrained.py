from __future__ import annotations

import json
import pickle
import string
import zipfile
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, CLIPConfig, CLIPModel, SwinConfig, SwinModel

from refseg.encoders.clip import ClipResNet, ClipResNetConfig, ClipText, ClipTextConfig, ClipViT, ClipViTConfig
from refseg.presets import get_preset, presets
from refseg.presets.base import Encoders, override
from refseg.weights.folders import PACKAGED
from refseg.weights.pretrained import find_clip, find_tokenizer, load_clip_resnet, load_clip_text, load_clip_vit
from refseg.weights.start import build, seeded
from tiny import tiny


def test_seeded_weights_depend_on_the_seed_alone():
    preset = get_preset("lgformer-shapes")
    first, second, other = seeded(preset, 1), seeded(preset, 1), seeded(preset, 2)
    pairs = zip(first.network.parameters(), second.network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not all(
        torch.equal(a, b) for a, b in zip(first.network.parameters(), other.network.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("name", "smaller"),
    [("lgformer", {"pixel_decoder.layers": 1, "generator.layers": 1}), ("crformer-released", {"neck": (8, 16, 24)})],
)
def test_a_preset_is_built_from_local_encoder_folders(tmp_path, name, smaller):
    base = get_preset(name)
    small = {
        "swin.embed_dim": 8, "swin.depths": (1, 1, 1, 1), "swin.heads": (1, 1, 2, 2), "swin.window": 4,
        "bert.vocab": 30, "bert.width": 16, "bert.layers": 1, "bert.heads": 2, "bert.ffn": 32, "bert.positions": 20,
        **smaller,
    }  # fmt: skip
    preset = replace(base, model=override(base.model, small))
    swin = SwinModel(SwinConfig(embed_dim=8, depths=[1] * 4, num_heads=[1, 1, 2, 2], window_size=4, image_size=64))
    swin.save_pretrained(tmp_path / "swin-base-patch4-window12-384-in22k")
    bert = BertModel(
        BertConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
                   max_position_embeddings=20)
    )  # fmt: skip
    with pytest.raises(ValueError, match="holds no folder 'bert-base-uncased'"):
        build(preset, tmp_path)
    folder = tmp_path / "google-bert" / "bert-base-uncased"
    bert.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "circle"]))
    model = build(preset, tmp_path)
    assert model.tokenizer(["red circle"], 20).ids.tolist() == [[2, 5, 6, 3]]
    loaded = model.network.state_dict()
    assert torch.equal(
        loaded["text_encoder.model.embeddings.word_embeddings.weight"], bert.embeddings.word_embeddings.weight
    )
    theirs = swin.state_dict()["embeddings.patch_embeddings.projection.weight"]
    assert torch.equal(loaded["encoder.swin.embeddings.patch_embeddings.projection.weight"], theirs)
    if name == "crformer-released":  # the only one that reads the pooler
        assert torch.equal(loaded["pooler.dense.weight"], bert.pooler.dense.weight)
        assert torch.equal(loaded["pooler.dense.bias"], bert.pooler.dense.bias)


# CLIP: OpenAI's layout is that of the files with published numbers, transformers' is written by that library.
RESNET = ClipResNetConfig((1, 2, 1, 1), width=8, heads=4, joint=24, grid=2)
TEXT = ClipTextConfig(vocab=100, width=32, layers=2, heads=4, joint=24, positions=20)
VIT = ClipViTConfig(width=16, layers=2, heads=2, patch=4, joint=24, grid=3)
COUNTED = {"input_resolution": torch.tensor(64), "context_length": torch.tensor(20), "vocab_size": torch.tensor(100)}
COUNTED["logit_scale"] = torch.tensor(4.6)


def changed(weights, key, change):
    """The weights with another tensor under a key, or without any."""
    rest = {k: v for k, v in weights.items() if k != key}
    return rest if change is None else rest | {key: change}


@pytest.fixture
def openai(reference):
    """A CLIP in OpenAI's layout, both towers in one, and the published numbers of each."""
    text, image = reference("clip_text"), reference("clip_resnet")
    weights = {k.removeprefix("weights."): v for k, v in (text | image).items() if k.startswith("weights.")}
    return weights | COUNTED, text, image


def check_text(network: ClipText, numbers: dict[str, torch.Tensor], rtol: float = 1e-4, atol: float = 1e-5) -> None:
    tokens = numbers["input.token_ids"]
    mask = torch.arange(20)[None] <= (tokens == 99).int().argmax(1, keepdim=True)
    found = network.eval()(tokens, mask)
    torch.testing.assert_close(found.words, numbers["output.words"], rtol=rtol, atol=atol)
    torch.testing.assert_close(found.sentence, numbers["output.sentence"], rtol=rtol, atol=atol)


def check_resnet(network: ClipResNet, numbers: dict[str, torch.Tensor]) -> None:
    for end in ("", "_wide"):
        found = network.eval()(numbers[f"input.pixels{end}"])
        torch.testing.assert_close(found.spatial, numbers[f"output.spatial{end}"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.pooled, numbers[f"output.global{end}"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("where", ["file", "folder", "pytorch", "training checkpoint", "module."])
def test_openais_layout_gives_the_published_numbers(openai, tmp_path, where):
    weights, text_numbers, image_numbers = openai
    source = tmp_path / "RN50.safetensors"
    if where == "file":
        save_file(weights, source)
    elif where == "folder":
        source = tmp_path
        save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "model.safetensors")  # timm's image tower
        save_file(weights, tmp_path / "open_clip_model.safetensors")
    elif where == "pytorch":
        source = tmp_path
        torch.save(weights, tmp_path / "open_clip_pytorch_model.bin")
    elif where == "training checkpoint":
        source = tmp_path / "epoch_3.pt"
        torch.save({"epoch": 3, "name": "RN50", "state_dict": weights}, source)
    else:
        save_file({f"module.{k}": v for k, v in weights.items()}, source)
    text, resnet = ClipText(TEXT), ClipResNet(RESNET)
    load_clip_text(text, source)
    load_clip_resnet(resnet, source)
    check_text(text, text_numbers)
    check_resnet(resnet, image_numbers)


def test_half_precision_becomes_single(openai, tmp_path):
    weights, numbers, _ = openai
    save_file({k: v.half() if v.is_floating_point() else v for k, v in weights.items()}, tmp_path / "model.safetensors")
    text = ClipText(TEXT)
    load_clip_text(text, tmp_path)
    assert {p.dtype for p in text.parameters()} == {torch.float32}
    check_text(text, numbers, rtol=2e-2, atol=2e-2)


def test_resnet_without_pool_leaves_the_published_pool_aside(openai, tmp_path):
    weights, _, numbers = openai
    save_file(weights, tmp_path / "model.safetensors")
    network = ClipResNet(RESNET, pool=False)
    load_clip_resnet(network, tmp_path)
    stage = network.eval()(numbers["input.pixels"]).stages[3]
    torch.testing.assert_close(stage, numbers["output.layer4"], rtol=1e-4, atol=1e-5)


def test_counters_of_batches_are_taken_where_they_are_stored(openai, tmp_path):
    weights, _, _ = openai
    save_file(weights | {"visual.bn2.num_batches_tracked": torch.tensor(7)}, tmp_path / "model.safetensors")
    network = ClipResNet(RESNET)
    load_clip_resnet(network, tmp_path)
    assert int(network.bn2.num_batches_tracked) == 7 and int(network.bn1.num_batches_tracked) == 0


@pytest.fixture(scope="module")
def published():
    """A tiny CLIP of transformers with nothing left at the zeros and ones it starts from."""
    torch.manual_seed(3)
    blocks = {"num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": 60, "hidden_size": 16, "intermediate_size": 64, "max_position_embeddings": 12}
    ends = {"bos_token_id": 58, "eos_token_id": 59}
    image = {"hidden_size": 24, "intermediate_size": 96, "image_size": 12, "patch_size": 4}
    config = CLIPConfig(text_config=text | blocks | ends, vision_config=image | blocks, projection_dim=10)
    model = CLIPModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def openai_layout(model: CLIPModel) -> dict[str, torch.Tensor]:
    """The weights as OpenAI lays a CLIP with a vision transformer out."""
    theirs = {k: v.clone() for k, v in model.state_dict().items()}
    out = {"logit_scale": theirs["logit_scale"], "text_projection": theirs["text_projection.weight"].T.contiguous()}
    out["visual.proj"] = theirs["visual_projection.weight"].T.contiguous()
    text, image = "text_model.", "vision_model."
    out["token_embedding.weight"] = theirs[text + "embeddings.token_embedding.weight"]
    out["positional_embedding"] = theirs[text + "embeddings.position_embedding.weight"]
    out["visual.class_embedding"] = theirs[image + "embeddings.class_embedding"]
    out["visual.positional_embedding"] = theirs[image + "embeddings.position_embedding.weight"]
    out["visual.conv1.weight"] = theirs[image + "embeddings.patch_embedding.weight"]
    for kind in ("weight", "bias"):
        out[f"ln_final.{kind}"] = theirs[f"{text}final_layer_norm.{kind}"]
        out[f"visual.ln_pre.{kind}"] = theirs[f"{image}pre_layrnorm.{kind}"]
        out[f"visual.ln_post.{kind}"] = theirs[f"{image}post_layernorm.{kind}"]
        for tower, ours in ((text, ""), (image, "visual.")):
            for i in range(2):
                layer, block = f"{tower}encoder.layers.{i}.", f"{ours}transformer.resblocks.{i}."
                stacked = [theirs[f"{layer}self_attn.{part}_proj.{kind}"] for part in ("q", "k", "v")]
                out[f"{block}attn.in_proj_{kind}"] = torch.cat(stacked)
                out[f"{block}attn.out_proj.{kind}"] = theirs[f"{layer}self_attn.out_proj.{kind}"]
                out[f"{block}ln_1.{kind}"] = theirs[f"{layer}layer_norm1.{kind}"]
                out[f"{block}ln_2.{kind}"] = theirs[f"{layer}layer_norm2.{kind}"]
                out[f"{block}mlp.c_fc.{kind}"] = theirs[f"{layer}mlp.fc1.{kind}"]
                out[f"{block}mlp.c_proj.{kind}"] = theirs[f"{layer}mlp.fc2.{kind}"]
    assert sum(v.numel() for v in out.values()) == sum(p.numel() for p in model.parameters())
    return out


@pytest.mark.parametrize("layout", ["transformers", "transformers, old", "openai"])
def test_both_layouts_of_a_vision_transformer_equal_transformers(published, tmp_path, layout):
    if layout == "transformers":
        published.save_pretrained(tmp_path)
    elif layout == "openai":
        save_file(openai_layout(published), tmp_path / "open_clip_model.safetensors")
    else:
        old = dict(published.state_dict())
        old["text_model.embeddings.position_ids"] = torch.arange(12)[None]
        old["vision_model.embeddings.position_ids"] = torch.arange(10)[None]
        torch.save(old, tmp_path / "pytorch_model.bin")
    text = ClipText(ClipTextConfig(vocab=60, width=16, layers=2, heads=2, joint=10, positions=12)).eval()
    vit = ClipViT(ClipViTConfig(width=24, layers=2, heads=2, patch=4, joint=10, grid=3)).eval()
    load_clip_text(text, tmp_path)
    load_clip_vit(vit, tmp_path)

    tokens = torch.randint(0, 58, (3, 9))
    ends = torch.tensor([8, 4, 2])
    tokens[torch.arange(3), ends] = 59
    found = text(tokens, torch.arange(9)[None] <= ends[:, None])
    theirs = published.text_model(input_ids=tokens)
    torch.testing.assert_close(found.words, theirs.last_hidden_state)
    torch.testing.assert_close(found.sentence, published.text_projection(theirs.pooler_output))

    for size in ((12, 12), (20, 8)):
        pixels = torch.randn(2, 3, *size)
        maps, pooled = vit(pixels)
        theirs = published.vision_model(pixels, interpolate_pos_encoding=True)
        torch.testing.assert_close(pooled, published.visual_projection(theirs.pooler_output))
        states = published.visual_projection(published.vision_model.post_layernorm(theirs.last_hidden_state))
        columns = size[1] // 4
        for row in range(size[0] // 4):
            for column in range(columns):
                torch.testing.assert_close(maps[:, :, row, column], states[:, 1 + row * columns + column])


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("ln_final.bias", None, "text_model.final_layer_norm.bias is missing"),
        ("transformer.resblocks.1.attn.in_proj_weight", None, "layers.1.self_attn.q_proj.weight is missing"),
        ("transformer.resblocks.1.attn.in_proj_bias", torch.zeros(95), "v_proj.bias is .31,. instead of .32,."),
        ("transformer.resblocks.1.attn.in_proj_bias", torch.tensor(0.0), "resblocks.1.attn.in_proj_bias is unknown"),
        ("text_projection", torch.zeros(24, 32), "text_projection.weight is .32, 24. instead of .24, 32."),
        ("positional_embedding", torch.zeros(77, 32), "position_embedding.weight is .77, 32. instead of .20, 32."),
        ("transformer.resblocks.2.ln_1.bias", torch.zeros(32), "layers.2.layer_norm1.bias is unknown"),
        ("transformer.resblocks.0.ln_3.bias", torch.zeros(32), "transformer.resblocks.0.ln_3.bias is unknown"),
        ("text_decoder.weight", torch.zeros(3), "text_decoder.weight is unknown"),
    ],
)
def test_a_text_tower_that_does_not_fit_is_refused_by_name(openai, tmp_path, key, change, message):
    save_file(changed(openai[0], key, change), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        load_clip_text(ClipText(TEXT), tmp_path)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("visual.layer2.1.conv2.weight", None, "layer2.1.conv2.weight is missing"),
        ("visual.layer1.0.bn3.running_var", None, "layer1.0.bn3.running_var is missing"),
        ("visual.layer5.0.conv1.weight", torch.zeros(1), "layer5.0.conv1.weight is unknown"),
        ("visual.attnpool.c_proj.weight", torch.zeros(24, 32), "c_proj.weight is .24, 32. instead of .24, 256."),
        ("visual_projection", torch.zeros(1), "visual_projection is unknown"),
    ],
)  # fmt: skip
def test_a_resnet_that_does_not_fit_is_refused_by_name(openai, tmp_path, key, change, message):
    save_file(changed(openai[0], key, change), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=message):
        load_clip_resnet(ClipResNet(RESNET), tmp_path)


def test_towers_of_the_wrong_kind_are_refused(openai, published, tmp_path):
    save_file(openai[0], tmp_path / "resnet.safetensors")
    with pytest.raises(ValueError, match="vision_model.embeddings.class_embedding is missing"):
        load_clip_vit(ClipViT(VIT), tmp_path / "resnet.safetensors")
    published.save_pretrained(tmp_path / "vit")
    with pytest.raises(ValueError, match="has no ResNet"):
        load_clip_resnet(ClipResNet(RESNET), tmp_path / "vit")
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "timm.safetensors")
    for load, network in ((load_clip_text, ClipText(TEXT)), (load_clip_resnet, ClipResNet(RESNET))):
        with pytest.raises(ValueError, match=r"holds no \w+ tower of CLIP .its first tensors are conv1.weight."):
            load(network, tmp_path / "timm.safetensors")


class Trap:
    """Leaves a file behind where a pickle that holds it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_files_that_are_no_tensors_are_refused_and_nothing_in_them_is_executed(openai, tmp_path):
    trap = tmp_path / "executed"
    torch.save({"visual.conv1.weight": Trap(trap)}, tmp_path / "trap.bin")
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(Trap(trap)))
    with zipfile.ZipFile(tmp_path / "RN50.pt", "w") as archive:  # the layout that torch.jit.save writes
        archive.writestr("RN50/code/__torch__/model.py", "raise SystemExit")
        archive.writestr("RN50/constants.pkl", pickle.dumps(Trap(trap)))
        archive.writestr("RN50/data.pkl", pickle.dumps(Trap(trap)))
    torch.save({"epoch": 1, "weights": [1, 2]}, tmp_path / "other.pt")
    torch.save(torch.zeros(3), tmp_path / "single.pt")
    save_file(openai[0], tmp_path / "whole.safetensors")
    torch.save(openai[0], tmp_path / "whole.pt")
    for ending in ("safetensors", "pt"):
        whole = (tmp_path / f"whole.{ending}").read_bytes()
        (tmp_path / f"cut.{ending}").write_bytes(whole[: len(whole) // 2])
    load_clip_text(ClipText(TEXT), tmp_path / "whole.pt")
    expected = {
        "RN50.pt": "a TorchScript archive, .* timm/resnet101_clip.openai",
        "cut.safetensors": "not a readable safetensors file",
        "nowhere": "holds no weights; open_clip_model.safetensors, ",
    }
    expected |= dict.fromkeys(
        ["trap.bin", "plain.bin", "other.pt", "single.pt", "cut.pt"], "not a file of tensors alone"
    )
    for name, message in expected.items():
        with pytest.raises(ValueError, match=f"{name}: {message}") as error:
            load_clip_text(ClipText(TEXT), tmp_path / name)
        assert "\n" not in str(error.value)
        assert not trap.exists()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one repository whose files are given by the test, and a list of what was fetched."""
    there: list[str] = []
    fetched: list[str] = []

    def from_hub(repository: str, patterns: list[str]) -> Path:
        assert repository == "someone/clip"
        for name in there:
            if any(fnmatch(name, pattern) for pattern in patterns) and not (tmp_path / name).exists():
                (tmp_path / name).touch()
                fetched.append(name)
        return tmp_path

    monkeypatch.setattr("refseg.weights.pretrained.from_hub", from_hub)
    return there, fetched


@pytest.mark.parametrize(
    ("others", "needed"),
    [
        (["open_clip_pytorch_model.bin", "pytorch_model.bin", "model.safetensors"], "open_clip_model.safetensors"),
        (["tf_model.h5", "pytorch_model.bin", "flax_model.msgpack"], "model.safetensors"),
        (["tf_model.h5", "tokenizer.json"], "pytorch_model.bin"),
    ],
)
def test_one_file_of_weights_is_fetched_from_the_hub(hub, others, needed):
    there, fetched = hub
    there += ["config.json", *others, needed]
    assert (find_clip("someone/clip", None) / needed).is_file()
    assert fetched == ["config.json", needed]


def test_a_repository_without_weights_says_so(hub):
    hub[0].append("config.json")
    with pytest.raises(ValueError, match="someone/clip: .* has none of open_clip_model.safetensors, model.safetensors"):
        find_clip("someone/clip", None)


@pytest.mark.parametrize(
    ("names", "needed"),
    [
        (["vocab.json", "merges.txt", "tokenizer.json", "model.safetensors"], ["tokenizer.json"]),
        (["merges.txt", "vocab.json", "pytorch_model.bin"], ["merges.txt", "vocab.json"]),
        (["vocab.txt", "pytorch_model.bin"], ["vocab.txt"]),
    ],
)
def test_a_tokenizer_is_fetched_without_weights(hub, names, needed):
    there, fetched = hub
    there += names
    find_tokenizer("someone/clip", None)
    assert fetched == needed


def byte_pair_files(folder: Path) -> None:
    """CLIP's two files over the letters alone."""
    pieces = [
        *string.ascii_lowercase,
        *(f"{c}</w>" for c in string.ascii_lowercase),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")


@pytest.mark.parametrize("backbone", ["resnet", "vit"])
def test_a_clip_preset_is_built_from_local_encoder_folders(openai, published, tmp_path, backbone):
    weights, folder = tmp_path / "someone" / "clip", tmp_path / "words"
    weights.mkdir(parents=True)
    folder.mkdir()
    byte_pair_files(folder)
    base = tiny("eavl")
    if backbone == "resnet":
        save_file(openai[0], weights / "open_clip_model.safetensors")
        model = replace(base.model, vision=RESNET, text=TEXT)
        name, theirs = "layer4.0.conv1.weight", openai[0]["visual.layer4.0.conv1.weight"]
        words = openai[0]["token_embedding.weight"]
    else:
        published.save_pretrained(weights)
        vision = ClipViTConfig(width=24, layers=2, heads=2, patch=4, joint=10, grid=3)
        text = ClipTextConfig(vocab=60, width=16, layers=2, heads=2, joint=10, positions=12)
        model = replace(base.model, vision=vision, text=text)
        name, theirs = "model.visual_projection.weight", published.visual_projection.weight
        words = published.text_model.embeddings.token_embedding.weight
    preset = replace(base, model=model, encoders=Encoders(clip="someone/clip", clip_tokenizer="else/words"))
    preset = replace(preset, input=replace(preset.input, max_tokens=12))
    found = build(preset, tmp_path)
    loaded = found.network.state_dict()
    assert torch.equal(loaded[f"encoder.{name}"], theirs)
    assert torch.equal(loaded["text_encoder.model.text_model.embeddings.token_embedding.weight"], words)
    assert found.tokenizer(["Ox"], 8).ids.tolist() == [[52, 14, 26 + 23, 53]]
    with pytest.raises(ValueError, match="holds no folder 'elsewhere'"):
        build(replace(preset, encoders=Encoders(clip="someone/elsewhere")), tmp_path)


def test_compact_presets_keep_the_end_of_a_sentence_as_their_encoder_needs_it():
    for name, keeps in (("eavl", True), ("lavt", False)):
        cut, whole = build(tiny(name)).tokenizer(["red " * 9, "red"], 5).ids
        assert (cut[4] == whole[2]) == keeps, name


@pytest.mark.parametrize("name", [name for name in presets() if name.endswith("-shapes")])
def test_compact_versions_of_a_family_start_equally(name):
    clip = name.startswith(("eavl", "jmceln"))
    packaged = {}
    for encoders in ("clip-shapes",) if clip else ("swin-shapes", "bert-shapes"):
        packaged |= load_file(PACKAGED / "encoders" / encoders / "model.safetensors")
    first, second = (seeded(get_preset(name), seed).network.state_dict() for seed in (1, 2))
    shared = [k for k in packaged if k.startswith(("text_encoder.", "encoder.")) and k in first]
    shared = [k for k in shared if first[k].shape == packaged[k].shape]  # positions may be of another size
    assert len(shared) > 100 and all(torch.equal(first[k], packaged[k].to(first[k].dtype)) for k in shared)
    assert any(not torch.equal(first[k], second[k]) for k in first if k not in shared)


def test_a_compact_version_of_another_shape_does_not_start_from_it():
    preset = get_preset("lavt-shapes")
    with pytest.raises(ValueError, match="encoder.swin of swin-shapes: does not fit the model"):
        build(replace(preset, model=override(preset.model, {"swin.embed_dim": 48})))
