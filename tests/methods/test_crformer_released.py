"""CRFormer's released system against its recorded numbers, from words to loss."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from refseg.methods.crformer import CRFormer
from refseg.presets import get_preset
from refseg.presets.base import override
from refseg.weights.convert.published import bert_of, renamed, swin_of

sys.path.insert(0, str(Path(__file__).parents[1] / "weights"))
from crformer_names import RULES, UNREAD  # noqa: E402

EVAL = {"rtol": 1e-3, "atol": 1e-3}  # what the published code's own float32 noise allows
CLOSE = {"rtol": 1e-3, "atol": 1e-4}
TRAIN = {"rtol": 1e-2, "atol": 1e-2}  # batch norms over few cells amplify


@pytest.fixture(scope="module")
def numbers(reference):
    return reference("crformer_released")


@pytest.fixture
def network(numbers):
    published = {k.removeprefix("weights."): v for k, v in numbers.items() if k.startswith("weights.")}
    published |= {
        f"text_encoder.{k.removeprefix('bert_weights.')}": v
        for k, v in numbers.items()
        if k.startswith("bert_weights.")
    }
    pooler = {k: v for k, v in published.items() if k.startswith("text_encoder.pooler.")}
    kept = {k: v for k, v in published.items() if not UNREAD.fullmatch(k) and k not in pooler}
    alpha = torch.stack([kept.pop(f"classifier.t{i}").reshape(()) for i in (1, 2)])
    tensors = renamed(kept, RULES, "numbers", "CRFormer") | {"alpha": alpha}
    tensors |= {k.replace("text_encoder.pooler", "pooler"): v for k, v in pooler.items()}
    base = get_preset("crformer-released").model
    shape = {"swin": swin_of(tensors, base.swin), "bert": bert_of(tensors, base.bert), "grid": (6, 4)}
    network = CRFormer(override(base, shape | {"neck": (16, 32, 64), "ffn": 56, "dropout": 0.0}))
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    assert not unexpected and all(name.endswith("num_batches_tracked") for name in missing)
    for module in network.modules():
        if hasattr(module, "rate"):  # stochastic depth
            module.rate = 0.0
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.0
    return network.eval()


def like(found, numbers, name, tolerance):
    torch.testing.assert_close(
        found, numbers[name].reshape(found.shape), **tolerance, msg=lambda said: f"{name}: {said}"
    )


def answer(network, numbers, length=20, details=False):
    text = network.encode_text(numbers["input.tokens"][:, :length], numbers["input.word_mask"][:, :length].bool())
    image = network.encode_image(numbers["input.pixels"])
    return image, text, network(image, text, torch.arange(2), details=details)


@torch.no_grad()
def test_every_output(network, numbers):
    image, text, output = answer(network, numbers, details=True)
    like(text.words, numbers, "output.words", CLOSE)
    like(text.sentence, numbers, "output.sentence", CLOSE)
    maps, _ = network.encoder(image, text, torch.arange(2))
    for found, stage in zip(maps, (2, 3, 4), strict=True):
        like(found, numbers, f"output.stage{stage}", EVAL)
    fused = network.neck(network.neck.project(*maps), text.sentence)
    like(fused, numbers, "output.neck", CLOSE)
    decoded, queries, made = network._decode(fused, text, to_end=True)
    like(decoded, numbers, "output.decoder3", EVAL)
    like(queries, numbers, "output.queries4", EVAL)
    like(made[0].queries, numbers, "output.queries1", EVAL)
    for number, found in enumerate(made, 1):
        like(found.maps, numbers, f"output.query_maps{number if number > 1 else ''}", EVAL)
    for number in (2, 3):
        like(made[number - 1].queries, numbers, f"output.calibration{number}", EVAL)
    rebuilt, target = network.recon(queries, text.words, text.mask, text.sentence)
    like(rebuilt, numbers, "output.reconstructed", CLOSE)
    like(target, numbers, "output.reconstruction_target", CLOSE)
    like(output.logits, numbers, "output.logits_stride4", CLOSE)
    whole = F.interpolate(output.logits, numbers["output.logits"].shape[-2:], mode="bilinear", align_corners=True)
    like(whole, numbers, "output.logits", CLOSE)


def test_a_training_step(network, numbers):
    network.train().requires_grad_(True)
    _, _, output = answer(network, numbers)
    like(output.logits, numbers, "train.logits_stride4", TRAIN)
    like(output.aux["reconstructed"], numbers, "train.reconstructed", TRAIN)
    like(output.aux["reconstruction_target"], numbers, "train.reconstruction_target", CLOSE)
    terms = network.loss(output, numbers["input.targets"].bool())
    loose = {"rtol": 1e-3, "atol": 1e-4}
    like(terms["seg"], numbers, "train.loss_seg", loose)
    like(terms["reconstruction"], {"r": 0.1 * numbers["train.loss_reconstruction"]}, "r", loose)
    sum(terms.values()).backward()
    like(sum(terms.values()), numbers, "train.loss", loose)
    norms = {k.removeprefix("train.grad_norm."): v for k, v in numbers.items() if k.startswith("train.grad_norm.")}
    for i, name in enumerate(("classifier.t1", "classifier.t2")):
        like(network.alpha.grad[i].abs(), {"n": norms.pop(name)}, "n", {"rtol": 2e-2, "atol": 1e-4})
    norms = {k if k.startswith(("backbone", "classifier")) else f"text_encoder.{k}": v for k, v in norms.items()}
    for name, norm in renamed(norms, RULES, "numbers", "CRFormer").items():
        like(network.get_parameter(name).grad.norm(), {name: norm}, name, {"rtol": 2e-2, "atol": 1e-4})
    after = {k.removeprefix("train.after."): v for k, v in numbers.items() if k.startswith("train.after.")}
    for name, value in renamed(after, RULES, "numbers", "CRFormer").items():
        like(network.get_buffer(name), {name: value}, name, CLOSE)


def test_padding_is_made_up_to_the_twenty_tokens_that_the_released_code_counts(network, numbers):
    """Shorter sentences are averaged over 20 places, as where the data themselves are padded to 20."""
    network.train()
    tokens, mask = numbers["input.tokens"][:, :12], numbers["input.word_mask"][:, :12].bool()
    found = []
    for missing in (0, 3, 8):
        text = network.encode_text(
            torch.nn.functional.pad(tokens, (0, missing)), torch.nn.functional.pad(mask, (0, missing))
        )
        assert text.words.shape[1] == text.mask.shape[1] == 20 and not text.mask[:, 12:].any()
        with torch.no_grad():
            _, target = network.recon(
                torch.zeros(len(tokens), 4, network.config.neck[1]), text.words, text.mask, text.sentence
            )
        found.append(target)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
