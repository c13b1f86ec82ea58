"""Everything in refseg that reads what somebody else wrote, each with good inputs to start from."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from child import run_in
from PIL import Image
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from annotated import write
from ball import OUTLINE, ball, coco_data, own_data, photo
from fuzz import mutate
from fuzz.mutate import Mutator
from refseg.annotate.opening import open_source
from refseg.data.formats.images import read_image
from refseg.data.formats.mask_pictures import read_mask
from refseg.data.sets import open_data, open_splits
from refseg.methods import build_network
from refseg.predictor import Predictor
from refseg.presets import get_preset
from refseg.protocols import ORIGINAL, find_protocol
from refseg.scoring.compare import compare
from refseg.scoring.predictions import PredictionFile, score_predictions
from refseg.scoring.report import Origin
from refseg.scoring.runs import evaluation_report
from refseg.scoring.saved_scores import SavedScores, score_saved
from refseg.segment import read_list
from refseg.training.checkpoint import checkpoints, load_checkpoint
from refseg.training.config import read_run
from refseg.training.loop import train
from refseg.training.settings import with_settings
from refseg.weights.convert.lavt import convert_lavt
from refseg.weights.store import load_model, save_model
from tiny import tiny_model


@dataclass(frozen=True)
class Reader:
    """A reader of one kind of input.

    Attributes:
        kind: Its name in the table.
        seeds: Good inputs.
        read: Reads an input; what it raises is judged.
        names: One of these must be in the text of an error.
        mutators: Changes that know the format, beside those of bytes.
    """

    kind: str
    seeds: Sequence[bytes]
    read: Callable[[bytes], object]
    names: tuple[str, ...]
    mutators: tuple[Mutator, ...] = ()


def readers(folder: Path) -> list[Reader]:
    """All readers, with their files in a folder that is empty."""
    return [
        *_pictures(folder / "pictures"),
        *_data(folder / "data"),
        *_evaluations(folder / "evaluations"),
        *_models(folder / "models"),
        *_runs(folder / "runs"),
        _settings(),
    ]


def _of_file(kind: str, path: Path, read: Callable[[Path], object], *mutators: Mutator, also: Sequence[str] = (),
             seeds: Sequence[bytes] = ()) -> Reader:  # fmt: skip
    """A reader of a file that lies among others."""

    def reads(content: bytes) -> None:
        path.write_bytes(content)
        read(path)

    return Reader(kind, seeds or [path.read_bytes()], reads, (path.name, str(path.parent), *also), mutators)


def _pictures(folder: Path) -> list[Reader]:
    folder.mkdir()
    colour, mask = Image.fromarray(photo()), Image.fromarray(ball())
    pictures = [_encoded(colour, kind) for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")]
    pictures += [_encoded(Image.fromarray(np.full((9, 9), 0.5, np.float32)), "TIFF"),
                 _encoded(Image.fromarray(np.full((9, 9), 900, np.uint16)), "PNG")]  # fmt: skip
    masks = [_encoded(mask, "PNG"), _encoded(mask.convert("P"), "GIF"), _encoded(mask.convert("L"), "JPEG"),
             _encoded(mask.convert("RGBA"), "PNG"), _encoded(mask.convert("F"), "TIFF")]  # fmt: skip
    place = folder / "picture.png"
    return [
        _of_file("image", place, read_image, seeds=pictures),
        Reader("image as bytes", pictures, read_image, ("image",)),
        _of_file("mask", place, read_mask, seeds=masks),
    ]


def _encoded(picture: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def _all_samples(path: Path) -> None:
    for data in open_splits(str(path)).values():
        for place in range(len(data)):
            data[place]


def _data(folder: Path) -> list[Reader]:
    jsonl = own_data(folder / "jsonl", [OUTLINE], mask_values="255", split="val")
    with jsonl.open("a") as file:
        file.write(json.dumps({"image": "a.png", "expression": "nothing", "mask": None, "split": "val"}) + "\n")
        code = {"size": [48, 64], "counts": [100, 50, 2922]}
        file.write(json.dumps({"image": "a.png", "expression": "it, that", "mask": code, "split": "train"}) + "\n")
    Image.fromarray(photo()).save(folder / "a.png")
    Image.fromarray(ball()).save(folder / "m.png")
    table = folder / "data.csv"
    table.write_text('image,expression,mask,split\na.png,"the ball, red",m.png,val\na.png,it,m.png,train\n')
    coco = coco_data(folder / "coco", [OUTLINE], bbox=[8, 9, 16, 14], area=193)
    refer = _refer(folder / "refer")
    lines = (mutate.json_lines,)
    return [
        _of_file("rows of JSON", jsonl, _all_samples, *lines),
        _of_file("CSV", table, _all_samples),
        _of_file("instances.json", coco / "instances.json", lambda path: _all_samples(coco), mutate.json_values),
        _of_file("expressions.jsonl", coco / "expressions.jsonl", lambda path: _all_samples(coco), *lines),
        _of_file("REFER pickle", refer / "refs(unc).p", _all_samples, mutate.pickled_values, also=("instances.json",)),
        _of_file("REFER JSON", refer / "grefs(unc).json", _all_samples, mutate.json_values, also=("instances.json",)),
        _of_file("list", _list(folder / "list.jsonl"), read_list, *lines),
        *_rows(folder / "rows"),
    ]


def _rows(folder: Path) -> list[Reader]:
    """What `refseg annotate` reads; a row may say that it is wrong, an input without any other is refused."""

    def read(path: Path) -> None:
        source = open_source(str(path))
        source.check(2)
        for chunk in source.chunks(2):
            found = list(source.rows(chunk))
            assert len(found) == chunk.count and all(row.problem or row.expressions for row in found)

    names = {kind: Path(write(kind, folder / kind, 5)) for kind in ("list", "tar", "paths", "structs")}
    return [
        _of_file("list of rows", names["list"], read, mutate.json_lines, also=("line 1",)),
        _of_file("tar of rows", names["tar"], read, also=(".json", ".txt", "without an image")),
        _of_file("Parquet of paths", names["paths"], read, also=("row 1",)),
        _of_file("Parquet of images", names["structs"], read, also=("row 1",)),
    ]


def _refer(folder: Path) -> Path:
    coco_data(folder, [OUTLINE], bbox=[8, 9, 16, 14], area=193)
    (folder / "expressions.jsonl").unlink()
    (folder / "images").mkdir()
    shutil.copy(folder / "a.png", folder / "images" / "a.png")
    sentence = {"sent_id": 5, "sent": "the ball", "raw": "the ball", "tokens": ["the", "ball"]}
    record = {"ref_id": 3, "ann_id": 1, "image_id": 1, "category_id": 1, "split": "val", "file_name": "a.png",
              "sent_ids": [5], "sentences": [sentence]}  # fmt: skip
    (folder / "refs(unc).p").write_bytes(pickle.dumps([record], 2))
    general = record | {"ann_id": [1], "category_id": [1]}
    (folder / "grefs(unc).json").write_text(json.dumps([general]))
    return folder


def _list(path: Path) -> Path:
    rows = [{"image": "a.png", "expression": "the ball"}, {"image": "a.png", "expressions": ["it", "the box"]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _evaluations(folder: Path) -> list[Reader]:
    data = open_data(str(own_data(folder / "set", [OUTLINE])), "all")
    origin = Origin("tiny", "set", "all", "true", None, "model", {}, "refseg eval tiny")
    for name in ("one", "other"):
        evaluation_report(Predictor(tiny_model(), "cpu"), data, origin, ORIGINAL, folder / name, save_scores=True)
    one, other = folder / "one", folder / "other"
    scores = one / "scores"
    protocol = folder / "own.json"
    protocol.write_text(json.dumps(ORIGINAL.as_dict() | {"name": "own"}))
    saved = next(scores.glob("*.npz"))
    score = lambda _: score_saved(SavedScores(scores), data, ORIGINAL)  # noqa: E731
    predicted = lambda path: score_predictions(PredictionFile(path), data, ORIGINAL)  # noqa: E731
    return [
        _of_file("protocol", protocol, lambda path: find_protocol(str(path)), mutate.json_values),
        _of_file("predictions", one / "predictions.jsonl", predicted, mutate.json_lines),
        _of_file("report", one / "report.json", lambda path: compare(path, other, resamples=5), mutate.json_values),
        _of_file("header of saved scores", scores / "header.json", score, mutate.json_values),
        _of_file("saved scores", saved, score, mutate.arrays),
    ]


def _models(folder: Path) -> list[Reader]:
    save_model(tiny_model(), folder / "model")
    config = folder / "model" / "config.json"
    free = json.loads(config.read_text())
    free.pop("tokenizer_sha256")  # a model without it is read too, and every change of its words arrives
    config.write_text(json.dumps(free))
    words = folder / "model" / "tokenizer.json"
    weights = folder / "model" / "model.safetensors"
    answered = lambda path: Predictor(load_model(path.parent), "cpu")(photo(), ["red circle", "zebra ☃ 9"])  # noqa: E731

    def with_its_hash(path: Path) -> None:
        told = free | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        config.write_text(json.dumps(told))
        load_model(path.parent)

    return [
        *_restored(_of_file("config of a model", config, lambda path: load_model(path.parent), mutate.json_values)),
        *_restored(_of_file("tokenizer", words, answered, mutate.json_values)),
        *_restored(_of_file("weights", weights, with_its_hash, mutate.header_of_tensors)),
    ]


def _restored(reader: Reader) -> list[Reader]:
    """The reader, which leaves its file as it found it: others read it too."""

    def read(content: bytes) -> None:
        try:
            reader.read(content)
        finally:
            place.write_bytes(reader.seeds[0])

    place: Path = reader.read.__closure__[0].cell_contents  # type: ignore[attr-defined]
    return [replace(reader, read=read)]


def _runs(folder: Path) -> list[Reader]:
    run = run_in(folder / "run", steps=2)
    train(run)
    checkpoint = checkpoints(run.out)[-1]
    published, encoders = _published(folder)
    unhashed = torch.load(checkpoint, weights_only=True)
    unhashed.pop("hashes")
    free = io.BytesIO()
    torch.save(unhashed, free)
    return [
        _of_file("checkpoint", checkpoint, load_checkpoint, mutate.torch_values,
                 seeds=[checkpoint.read_bytes(), free.getvalue()]),
        _of_file("run.json", run.out / "run.json", lambda path: read_run(path.parent), mutate.json_values),
        _of_file("published weights", published, lambda path: convert_lavt(path, folder / "out", encoders),
                 mutate.torch_values, also=("bert-base-uncased",)),
    ]  # fmt: skip


def _published(folder: Path) -> tuple[Path, Path]:
    """A checkpoint of LAVT as it was published, small, and the folder with BERT's words."""
    words = folder / "encoders" / "bert-base-uncased" / "vocab.txt"
    words.parent.mkdir(parents=True)
    words.write_text("\n".join(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "circle")))
    config = BertConfig(vocab_size=7, hidden_size=768, num_hidden_layers=1, num_attention_heads=12,
                        intermediate_size=32, max_position_embeddings=24)  # fmt: skip
    known = load_file(Path(__file__).parents[1] / "reference" / "lavt.safetensors")
    network = {key.removeprefix("weights."): value for key, value in known.items() if key.startswith("weights.")}
    torch.save({"model": network, "bert_model": BertModel(config).state_dict(), "epoch": 39}, folder / "lavt.pth")
    return folder / "lavt.pth", words.parents[1]


def _settings() -> Reader:
    """`--set`: the changed preset is built without memory, so that impossible widths are found."""
    preset = get_preset("lgformer-shapes")
    texts = ("recipe.lr=1e-4", "model.swin.embed_dim=24", "model.swin.depths=[2,2,4,1]", "input.size=[64,64]",
             "input.max_tokens=22", "model.pixel_decoder.heads=4", "model.bert.width=96")  # fmt: skip

    def read(content: bytes) -> None:
        changed = with_settings(preset, [content.decode("utf-8", "replace")])
        with torch.device("meta"):
            build_network(changed.method, changed.model, changed.name)

    return Reader("--set", [text.encode() for text in texts], read, ("--set", "model", "preset", "width", "heads"), ())
