from __future__ import annotations

from fnmatch import fnmatch

import pytest
import torch
import torch.nn.functional as F

from refseg.encoders.clip import ClipResNet, ClipResNetConfig, ClipText, ClipTextConfig, ClipViT, ClipViTConfig

RESNET = ClipResNetConfig((1, 2, 1, 1), width=8, heads=4, joint=24, grid=2)  # as in the file of published numbers
TEXT = ClipTextConfig(vocab=50, width=16, layers=2, heads=2, joint=12, positions=20)
VIT = ClipViTConfig(width=16, layers=2, heads=2, patch=4, joint=12, grid=3)


def published_resnet(numbers: dict[str, torch.Tensor], pool: bool = True) -> ClipResNet:
    """The tower with the published weights, whose names are those below `visual.`."""
    network = ClipResNet(RESNET, pool).eval()
    weights = {k.removeprefix("weights.visual."): v for k, v in numbers.items() if k.startswith("weights.")}
    weights = {k: v for k, v in weights.items() if pool or not k.startswith("attnpool.")}
    missing, unexpected = network.load_state_dict(weights, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    return network


def close(ours: torch.Tensor | None, theirs: torch.Tensor) -> None:
    assert ours is not None
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def words_like(sentences: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random tokens without the end of the vocabulary, and a mask that ends somewhere else in every row."""
    tokens = torch.randint(0, 40, (sentences, length))
    mask = torch.arange(length)[None] < torch.randint(2, length + 1, (sentences, 1))
    return tokens, mask


def test_resnet_equals_published_numbers(reference):
    numbers = reference("clip_resnet")
    found = published_resnet(numbers)(numbers["input.pixels"])
    for i, stage in enumerate(found.stages):
        close(stage, numbers[f"output.layer{i + 1}"])
    close(found.spatial, numbers["output.spatial"])
    close(found.pooled, numbers["output.global"])


def test_resnet_equals_published_numbers_on_another_size(reference):
    numbers = reference("clip_resnet")
    found = published_resnet(numbers)(numbers["input.pixels_wide"])
    close(found.spatial, numbers["output.spatial_wide"])
    close(found.pooled, numbers["output.global_wide"])


def test_resnet_without_attention_pool_has_the_same_stages_and_nothing_else(reference):
    numbers = reference("clip_resnet")
    network = published_resnet(numbers, pool=False)
    found = network(numbers["input.pixels"])
    assert found.spatial is None and found.pooled is None and network.inert == {}
    assert not any("attnpool" in name for name in network.state_dict())
    close(found.stages[3], numbers["output.layer4"])


@pytest.mark.parametrize("config", [RESNET, ClipResNetConfig((2, 1, 3, 1), width=4, heads=2, joint=6, grid=3)])
def test_resnet_stages_have_the_announced_channels_and_strides(config):
    found = ClipResNet(config).eval()(torch.randn(1, 3, 64, 96))
    expected = [(1, c, 64 // s, 96 // s) for c, s in zip(config.channels, (4, 8, 16, 32), strict=True)]
    assert [tuple(stage.shape) for stage in found.stages] == expected
    assert found.spatial.shape == (1, config.joint, 2, 3) and found.pooled.shape == (1, config.joint)


@pytest.mark.parametrize("size", [(65, 64), (64, 48), (0, 32)])
def test_resnet_refuses_sides_that_its_pools_would_cut(size):
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]}: .* multiples of 32"):
        ClipResNet(RESNET)(torch.zeros(1, 3, *size))


def test_attention_pool_refuses_heads_that_do_not_divide_its_width():
    with pytest.raises(ValueError, match="256 channels with 7 heads"):
        ClipResNet(ClipResNetConfig((1, 1, 1, 1), width=8, heads=7, joint=24, grid=2))


def test_what_pads_a_sentence_reaches_neither_words_nor_sentence():
    network = ClipText(TEXT).eval()
    tokens, mask = words_like(4, 9)
    expected = network(tokens, mask)
    longer, longer_mask = F.pad(tokens, (0, 11), value=49), F.pad(mask, (0, 11))
    rubbish = torch.where(longer_mask, longer, torch.randint(0, 50, longer.shape))
    for other in (longer, rubbish):
        found = network(other, longer_mask)
        torch.testing.assert_close(found.words[:, :9][mask], expected.words[mask])
        torch.testing.assert_close(found.sentence, expected.sentence)
        assert found.mask is longer_mask


def test_sentence_is_the_projection_of_the_last_real_word():
    network = ClipText(TEXT).eval()
    tokens, mask = words_like(5, 8)
    found = network(tokens, mask)
    assert found.words.shape == (5, 8, 16)
    for t in range(5):
        last = found.words[t, int(mask[t].sum()) - 1]
        torch.testing.assert_close(found.sentence[t], network.model.text_projection.weight @ last)


def test_words_see_what_stands_before_them_and_nothing_behind():
    network = ClipText(TEXT).eval()
    tokens, mask = torch.randint(0, 40, (1, 8)), torch.ones(1, 8, dtype=torch.bool)
    other = tokens.clone()
    other[0, 5] = 45
    one, two = network(tokens, mask).words[0], network(other, mask).words[0]
    torch.testing.assert_close(one[:5], two[:5])
    assert ((one[5:] - two[5:]).abs().amax(1) > 1e-4).all()


def test_more_words_than_positions_are_refused():
    network = ClipText(TEXT)
    full = torch.ones(64, 20, dtype=torch.bool)
    assert network(torch.zeros(64, 20, dtype=torch.long), full).words.shape == (64, 20, 16)
    with pytest.raises(ValueError, match="21 tokens: this model reads at most 20"):
        network(torch.zeros(1, 21, dtype=torch.long), torch.ones(1, 21, dtype=torch.bool))


def test_patch_tokens_lie_where_their_patches_are():
    network = ClipViT(ClipViTConfig(width=16, layers=0, heads=2, patch=4, joint=12, grid=3)).eval()
    pixels = torch.randn(1, 3, 8, 20)
    changed = pixels.clone()
    changed[..., 5, 14] += 1.0  # of the patch in row 1, column 3
    tokens, pooled = network(pixels)
    assert tokens.shape == (1, 12, 2, 5) and pooled.shape == (1, 12)
    moved = (network(changed)[0] - tokens)[0].abs().amax(0) > 1e-6
    assert moved.nonzero().tolist() == [[1, 3]]


def test_position_table_is_resized_bicubically():
    network = ClipViT(ClipViTConfig(width=16, layers=0, heads=2, patch=4, joint=12, grid=3)).eval()
    tower, table = network.model.vision_model, network.model.vision_model.embeddings.position_embedding.weight
    with torch.no_grad():
        table.normal_()
    grid = table[1:].T.reshape(1, 16, 3, 3)
    for size in ((2, 5), (3, 3)):
        pixels = torch.randn(1, 3, 4 * size[0], 4 * size[1])
        patches = F.conv2d(pixels, tower.embeddings.patch_embedding.weight, stride=4)
        placed = patches + F.interpolate(grid, size, mode="bicubic", align_corners=False)
        normed = tower.post_layernorm(tower.pre_layrnorm(placed.permute(0, 2, 3, 1)))
        expected = network.model.visual_projection(normed).permute(0, 3, 1, 2)
        torch.testing.assert_close(network(pixels)[0], expected)


def test_vision_transformer_sees_whole_patches_only_and_needs_one():
    network = ClipViT(VIT).eval()
    pixels = torch.randn(1, 3, 12, 12)
    tokens, pooled = network(F.pad(pixels, (0, 3, 0, 2), value=5.0))
    expected, expected_pooled = network(pixels)
    torch.testing.assert_close(tokens, expected)
    torch.testing.assert_close(pooled, expected_pooled)
    with pytest.raises(ValueError, match="12x3: .* at least 4"):
        network(torch.zeros(1, 3, 12, 3))


def answers(network: torch.nn.Module) -> list[torch.Tensor]:
    """All that a tower gives for some input."""
    if isinstance(network, ClipText):
        features = network(*words_like(6, 20))
        return [features.words, features.sentence]
    if isinstance(network, ClipResNet):
        found = network(torch.randn(2, 3, 64, 96))
        return [*found.stages, *(x for x in (found.spatial, found.pooled) if x is not None)]
    return list(network(torch.randn(2, 3, 17, 24)))


TOWERS = {
    "text": lambda: ClipText(TEXT),
    "resnet": lambda: ClipResNet(RESNET),
    "resnet without pool": lambda: ClipResNet(RESNET, pool=False),
    "vit": lambda: ClipViT(VIT),
}


@pytest.mark.parametrize("tower", TOWERS)
def test_every_parameter_learns_or_is_known_not_to(tower):
    network = TOWERS[tower]().train()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:  # the small initial scores would hide what attention learns
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    sum((x * torch.randn_like(x)).sum() for x in answers(network)).backward()
    known = network.inert
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad
        size = float(parameter.grad.abs().max())
        if any(fnmatch(name, pattern) for pattern in known):
            weight = float(network.get_parameter(name.removesuffix("bias") + "weight").grad.abs().max())
            assert size < 1e-4 * weight, f"{name} is called inert but has gradient {size} (weight {weight})"
        else:
            assert size > 1e-3, f"{name} gets no gradient ({size})"
    for pattern, reason in known.items():
        assert reason and any(fnmatch(name, pattern) for name, _ in network.named_parameters())


@pytest.mark.parametrize("tower", TOWERS)
def test_bfloat16_is_close_to_float32(tower):
    network = TOWERS[tower]().eval()
    torch.manual_seed(1)
    expected = [x.detach() for x in answers(network)]
    torch.manual_seed(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = answers(network)
    for ours, theirs in zip(found, expected, strict=True):
        assert float((ours.detach().float() - theirs).abs().max()) < 0.05 * float(theirs.abs().max())
    sum(x.float().sum() for x in found).backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)
