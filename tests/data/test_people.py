"""Files that people have: every test is a situation that somebody reported, with the mask that a person sees."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from PIL import Image

from ball import BOX, ORIENTATION, OUTLINE, PIXELS, H, W, ball, coco_data, own_data, photo
from refseg.data.checks.doctor import check
from refseg.data.formats.images import read_image
from refseg.data.formats.mask_pictures import parse_foreground, read_mask
from refseg.data.formats.rle import encode_rle
from refseg.data.reading import Reading
from refseg.data.sets import open_data
from refseg.data.verify import find_bad, refuse_bad, without_bad

GREY = ball().astype(np.uint8) * 255


def opened(path, **reading):
    return open_data(str(path), "all", Reading(**reading))


def findings(folder, **reading):
    return {finding.name: finding for finding in check(folder, reading=Reading(**reading)).findings}


def palette(*colours):
    picture = Image.fromarray((~ball()).astype(np.uint8)).convert("P")
    picture.putdata((~ball()).astype(int).ravel().tolist())
    picture.putpalette([value for colour in colours for value in colour])
    return picture


def with_alpha(mode, colour, clear):
    """Opaque where the ball is; `colour` there and `clear` elsewhere."""
    bands = [np.where(ball(), one, other).astype(np.uint8) for one, other in zip(colour, clear, strict=True)]
    return Image.merge(mode, [Image.fromarray(band) for band in [*bands, GREY]])


def soft():
    large = Image.fromarray(GREY).resize((4 * W, 4 * H), Image.Resampling.BICUBIC)
    return large.resize((W, H), Image.Resampling.BILINEAR)


SEEN = {
    "palette, white first": ("png", lambda: palette((255, 255, 255), (0, 0, 0))),
    "palette, quantised": ("png", lambda: Image.fromarray(GREY).convert("RGB").quantize(2)),
    "palette, red on black": ("png", lambda: palette((200, 0, 0), (0, 0, 0))),
    "gif": ("gif", lambda: palette((255, 255, 255), (0, 0, 0))),
    "nearly black palette": ("png", lambda: palette((254, 254, 254), (2, 1, 2))),
    "alpha, white everywhere": ("png", lambda: with_alpha("RGBA", (255, 255, 255), (255, 255, 255))),
    "alpha of grey": ("png", lambda: with_alpha("LA", (255,), (255,))),
    "cut-out": ("png", lambda: Image.merge("RGBA", [*Image.fromarray(photo()).split(), Image.fromarray(GREY)])),
    "black on clear": ("png", lambda: with_alpha("RGBA", (0, 0, 0), (0, 0, 0))),
    "cmyk": ("tif", lambda: Image.fromarray(GREY).convert("RGB").convert("CMYK")),
    "ycbcr": ("tif", lambda: Image.fromarray(GREY).convert("RGB").convert("YCbCr")),
    "float with nan": ("tif", lambda: Image.fromarray(np.where(ball(), np.float32(1), np.float32("nan")))),
    "float": ("tif", lambda: Image.fromarray(ball().astype(np.float32))),
    "16 bits": ("png", lambda: Image.fromarray(ball().astype(np.uint16) * 65535)),
    "one bit": ("png", lambda: Image.fromarray(ball())),
    "ones": ("png", lambda: Image.fromarray(ball().astype(np.uint8))),
    "soft edges": ("png", soft),
    "soft red edges": ("png", lambda: Image.merge("RGB", [soft(), *[Image.new("L", (W, H))] * 2])),
    "jpeg": ("jpg", lambda: Image.fromarray(GREY)),
    "lossy webp": ("webp", lambda: Image.fromarray(GREY).convert("RGB")),
}


@pytest.mark.parametrize("name", SEEN)
def test_a_mask_is_what_a_person_sees(tmp_path, name):
    ending, make = SEEN[name]
    make().save(tmp_path / f"m.{ending}")
    mask = opened(own_data(tmp_path, f"m.{ending}"))[0].mask(0)
    assert (mask ^ ball()).sum() <= (8 if ending in ("jpg", "webp") else 0), name
    assert ball().sum() == PIXELS
    told = {"jpg": {"lossy masks"}, "webp": {"lossy masks"}}.get(ending, {"soft masks"} if "soft" in name else set())
    assert set(findings(tmp_path)) == told


def labels(*, ignored):
    """The ball is 1, the box 2, and perhaps a strip is 255."""
    values = ball().astype(np.uint8)
    values[20:40, 36:54] = 2
    if ignored:
        values[-1] = 255
    return values


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("kind", ["grey", "palette", "deep"])
def test_a_map_of_labels_is_named_and_chosen_from(tmp_path, kind, ignored):
    values = labels(ignored=ignored)
    picture = Image.fromarray(values.astype(np.uint16) if kind == "deep" else values)
    if kind == "palette":
        picture = picture.convert("P")
        picture.putdata(values.ravel().tolist())
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 252 * 3 + [224, 224, 192])
    picture.save(tmp_path / "m.png")
    path = own_data(tmp_path, "m.png")
    with pytest.raises(ValueError, match=r"m\.png: [34] values \(.*0, .*1, .*2.*--mask-values.*1,2 for these"):
        opened(path)[0]
    assert "m.png" in findings(tmp_path)["masks of several values"].examples[0]
    for chosen in ("1", "not 0,2,255"):
        assert np.array_equal(opened(path, mask_values=chosen)[0].mask(0), ball())
        assert findings(tmp_path, mask_values=chosen) == {}
    assert np.array_equal(opened(path, mask_values=">1")[0].mask(0), values > 1)
    # The file's own choice, with which one picture serves several rows.
    rows = [{"image": "a.png", "expression": text, "mask": "m.png", "mask_values": of}
            for text, of in (("the ball", 1), ("both", [1, 2]))]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sample = opened(path, mask_values="2")[0]
    assert np.array_equal(sample.mask(0), ball()) and np.array_equal(sample.mask(1), np.isin(values, (1, 2)))


def test_masks_in_two_colours_of_which_none_is_black_are_not_guessed(tmp_path):
    for number, picture in enumerate((
        Image.fromarray(np.where(ball(), 255, 128).astype(np.uint8)),
        Image.fromarray(np.where(ball(), 2, 1).astype(np.uint8)),
        Image.fromarray(np.where(ball()[..., None], (255, 0, 0), (0, 0, 255)).astype(np.uint8)),
        Image.fromarray(np.where(ball()[..., None], (255, 0, 0), (0, 0, 0)).astype(np.uint8) + photo()),
    )):  # fmt: skip
        picture.save(tmp_path / f"{number}.png")
        with pytest.raises(ValueError, match="values"):
            read_mask(tmp_path / f"{number}.png")


@pytest.mark.parametrize("said", ["", "a", "not", ">", "nan", "1;2", [], ["1"], [True], {}, True, "1_0"])
def test_choices_of_values_that_mean_nothing(said):
    with pytest.raises(ValueError, match=r"^here .*accepted"):
        parse_foreground(said, "here")


DEGENERATE = {
    "corners of a box": ([[8, 8, 24, 24]], "an outline needs three points"),
    "shares of the sides": ([[x / 64 for x in OUTLINE]], "shares of the image's sides"),
    "whole image in shares": ([[0, 0, 1, 0, 1, 1, 0, 1]], "shares of the image's sides"),
    "no outline": ([], "an empty list"),
    "an empty outline": ([[]], "outlines lie"),
    "a point": ([[32.0, 24.0]], "an outline needs three points"),
    "outside": ([[100, 100, 120, 100, 120, 120]], "outside the image"),
    "a line": ([[8, 8, 16, 16, 24, 24]], "between two pixels"),
    "nothing set": (encode_rle(np.zeros((H, W), bool)), "nothing set"),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_given_but_empty_is_never_no_target(tmp_path, name):
    segmentation, why = DEGENERATE[name]
    for folder in (coco_data(tmp_path / "coco", segmentation), own_data(tmp_path / "own", segmentation).parent):
        with pytest.raises(ValueError, match=f"given but empty .*{why}"):
            opened(folder)[0]
        assert findings(folder)["empty masks"].severity == "error"
        data = opened(folder, skip_bad=True)
        assert len(without_bad(data)) == 0 and "given but empty" in without_bad(data).left_out[0]
    if name not in ("nothing set", "outside", "a line", "no outline", "an empty outline"):
        with pytest.raises(ValueError, match="given but empty"):  # seen without drawing
            refuse_bad(opened(folder))


def test_a_box_as_mask_and_a_black_picture(tmp_path):
    with pytest.raises(ValueError, match=r"given but empty .*four numbers may be a box"):
        opened(own_data(tmp_path, [8, 9, 16, 14]))[0]
    Image.new("L", (W, H)).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match=r"given but empty .*m\.png shows nothing but background"):
        opened(own_data(tmp_path, "m.png"))[0]
    assert not opened(own_data(tmp_path, None))[0].mask(0).any()  # nothing is meant


def test_a_part_without_area_beside_a_good_one_is_passed_over_and_counted(tmp_path):
    whole = opened(coco_data(tmp_path / "whole", [OUTLINE]))[0].mask(0)
    folder = coco_data(tmp_path / "mixed", [OUTLINE, [32.0, 24.0], [1, 1, 5, 5], []])
    assert np.array_equal(opened(folder)[0].mask(0), whole)
    found = findings(folder)
    assert set(found) == {"parts without area"} and "3 of its parts" in found["parts without area"].examples[0]


AGAINST = {
    "x and y swapped": [[16, 8, 9, 12, 9, 20, 16, 24, 23, 20, 23, 12][::-1]],
    "in percent": [[100 * x / side for x, side in zip(OUTLINE, [W, H] * 6, strict=True)]],
    "row by row": {"size": [H, W], "counts": encode_rle(ball().reshape(W, H).T.copy().T)["counts"]},
    "another object": [BOX],
}


def row_major():
    """The ball's runs counted row by row, as if they were column by column."""
    flat = np.concatenate([[False], ball().ravel(), [False]])
    ends = np.flatnonzero(np.diff(flat.astype(int)))
    runs = np.diff([0, *ends, H * W]).tolist()
    return {"size": [H, W], "counts": runs}


@pytest.mark.parametrize("name", AGAINST)
def test_a_mask_is_held_against_its_own_box(tmp_path, name):
    segmentation = row_major() if name == "row by row" else AGAINST[name]
    told = {"bbox": [8, 9, 16, 14] if name != "x and y swapped" else [30, 9, 16, 14], "area": 168}
    folder = coco_data(tmp_path, segmentation, **told)
    with pytest.raises(ValueError, match=r"reference 1:1: its mask lies within x .* its annotated bbox \["):
        opened(folder)[0]
    assert set(findings(folder)) == {"masks against their boxes"}
    assert len(without_bad(opened(folder, skip_bad=True))) == 0


@pytest.mark.parametrize(
    "told",
    [{"bbox": [8, 9, 16, 14], "area": 168}, {"bbox": [8, 9, 24, 23]}, {"bbox": [0, 0, 1, 1], "area": 1.5}, {"bbox": []},
     {"bbox": [8, 9, 16, 14], "area": 16 * 14}, {"bbox": None, "area": None}, {"bbox": "8 9 16 14", "area": "x"},
     {"bbox": [6.4, 8.1, 17.9, 16.2]}, {"bbox": [0, 0, 0, 0]}, {}],
)  # fmt: skip
def test_boxes_that_fit_or_say_nothing(tmp_path, told):
    folder = coco_data(tmp_path, [OUTLINE], **told)
    assert opened(folder)[0].mask(0).any() and findings(folder) == {}


def test_an_area_that_cannot_be(tmp_path):
    folder = coco_data(tmp_path, [OUTLINE], bbox=[8, 9, 16, 14], area=2000)
    assert opened(folder)[0].mask(0).any()
    assert set(findings(folder)) == {"masks against their areas"}


def turned(folder, orientation, square=False):
    """A photo that is to be turned when shown, the ball's mask on its stored pixels and on the photo as it is shown."""
    folder.mkdir(parents=True, exist_ok=True)
    image = photo()[:, :H] if square else photo()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(image).save(folder / "a.jpg", exif=exif, quality=95)
    mask = ball()[:, :H] if square else ball()
    Image.fromarray(mask).save(folder / "m.png")
    shown = {1: mask, 2: mask[:, ::-1], 3: mask[::-1, ::-1], 6: np.rot90(mask, -1), 8: np.rot90(mask)}[orientation]
    return mask, shown


@pytest.mark.parametrize(("orientation", "square"), [(2, False), (3, False), (6, True)])
def test_a_turned_photo_whose_annotations_fit_both_ways_is_asked_about(tmp_path, orientation, square):
    mask, _ = turned(tmp_path, orientation, square)
    path = own_data(tmp_path, "m.png", image="a.jpg")
    with pytest.raises(ValueError, match=rf"orientation {orientation}, and its annotations fit both ways; --orient"):
        opened(path)[0]
    assert set(findings(tmp_path)) == {"turned photos"}
    stored, as_shown = opened(path, orientation="stored")[0], opened(path, orientation="shown")[0]
    assert np.array_equal(stored.mask(0), mask) and np.array_equal(as_shown.mask(0), mask)  # masks are never turned
    red = stored.image[..., 0].astype(int) - stored.image[..., 2] > 100
    assert (red & mask).sum() > 0.9 * mask.sum()  # the ball is where the mask is
    assert not np.array_equal(stored.image, as_shown.image)
    for how in ("stored", "shown"):
        assert findings(tmp_path, orientation=how) == {}


def test_a_turned_photo_that_was_annotated_as_stored_is_named_and_one_as_shown_is_read(tmp_path):
    mask, shown = turned(tmp_path, 6)
    path = own_data(tmp_path, "m.png", image="a.jpg")
    with pytest.raises(ValueError, match="orientation 6, and its annotations fit the stored pixels, and not the photo"):
        opened(path)[0]
    with pytest.raises(ValueError, match="fit the stored pixels"):
        refuse_bad(opened(path))
    assert np.array_equal(opened(path, orientation="stored")[0].mask(0), mask)
    with pytest.raises(ValueError, match="mask of 64x48 pixels for an image of 48x64"):
        opened(path, orientation="shown")[0]
    Image.fromarray(shown).save(tmp_path / "m.png")
    sample = opened(path)[0]
    assert sample.image.shape == (W, H, 3) and np.array_equal(sample.mask(0), shown)
    coco = coco_data(tmp_path, [OUTLINE], file="a.jpg")  # says the size of the stored pixels
    with pytest.raises(ValueError, match="fit the stored pixels"):
        opened(coco / "expressions.jsonl")[0]
    # An outline that says no size fits where it has room.
    path = own_data(tmp_path, [[50, 30, 63, 30, 63, 47, 50, 47]], image="a.jpg")
    with pytest.raises(ValueError, match="fit the stored pixels"):
        opened(path)[0]


RANGES = {
    "one value beyond 1": (np.float32, 1 / 255, {(0, 0): 1.02}, "1 pixels lie outside"),
    "infinite": (np.float32, 1 / 255, {(0, 0): np.inf}, "1 pixels lie outside"),
    "no number": (np.float32, 1 / 255, {(0, 0): np.nan}, "1 pixels lie outside"),
    "up to 255": (np.float32, 1, {(0, 0): 256}, "255 is taken for white"),
    "12 of 16 bits": (np.uint16, 16, {}, "4095 is taken for white"),
    "10 of 16 bits": (np.uint16, 4, {(3, 3): 65535}, "1023 is taken for white"),
    "32 bits": (np.int32, (2**31 - 1) // 255, {}, "is taken for white"),
    "32 bits, small": (np.int32, 1, {(0, 0): 300}, "255 is taken for white"),
}


@pytest.mark.parametrize("name", RANGES)
def test_one_pixel_does_not_decide_how_an_image_looks(tmp_path, name):
    kind, factor, odd, message = RANGES[name]
    grey = np.asarray(Image.fromarray(photo()).convert("L"))
    values = (grey.astype(np.float64) * factor).astype(kind)
    for place, value in odd.items():
        values[place] = value
    Image.fromarray(values).save(tmp_path / "i.tif")
    with pytest.warns(UserWarning, match=message):
        found = read_image(tmp_path / "i.tif")[..., 0].astype(int)
    rest = np.ones((H, W), bool)
    for place in odd:
        rest[place] = False
    assert np.abs(found - grey)[rest].max() <= 1
    path = own_data(tmp_path, [OUTLINE], image="i.tif")
    assert message in findings(path.parent)["images of unusual range"].examples[0]


@pytest.mark.parametrize(
    "values", [np.full((20, 20), -0.5), np.full((20, 20), np.nan), np.full((20, 20), 1e9), np.linspace(-1, 1, 400)]
)
def test_images_of_no_known_range_are_refused(tmp_path, values):
    Image.fromarray(values.reshape(20, 20).astype(np.float32)).save(tmp_path / "i.tif")
    with pytest.raises(ValueError, match=r"i\.tif: .* is accepted"):
        read_image(tmp_path / "i.tif")


def test_a_usual_image_is_read_without_a_word(tmp_path):
    grey = np.linspace(0, 1, 400).reshape(20, 20)
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "f.tif")
    Image.fromarray((grey * 65535).astype(np.uint16)).save(tmp_path / "s.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("f.tif", "s.png"):
            assert np.abs(read_image(tmp_path / name)[..., 0] - grey * 255).max() <= 1


def test_references_without_sentences_are_passed_over_and_counted(tmp_path):
    folder = coco_data(tmp_path, [OUTLINE])
    (folder / "images").mkdir()
    (folder / "a.png").rename(folder / "images" / "a.png")
    refs = [
        {"ref_id": n, "ann_id": [1], "image_id": 1, "split": "val",
         "sentences": [{"sent_id": 1, "sent": "the ball", "raw": "the ball", "tokens": []}] if n == 1 else []}
        for n in (1, 2, 3)
    ]  # fmt: skip
    (folder / "expressions.jsonl").unlink()
    (folder / "grefs(unc).json").write_text(json.dumps(refs))
    data = open_data(str(folder), "val")
    assert [r.ref_id for r in data[0].references] == ["1"]
    assert findings(folder)["references without sentences"].count == 2


def test_a_category_with_two_names_is_refused(tmp_path):
    folder = coco_data(tmp_path, [OUTLINE])
    content = json.loads((folder / "instances.json").read_text())
    content["categories"] += [{"id": 1, "name": "ball"}]  # the same again is harmless
    (folder / "instances.json").write_text(json.dumps(content))
    assert opened(folder)[0].references[0].category == "ball"
    content["categories"] += [{"id": 1, "name": "box"}]
    (folder / "instances.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="category 1: there twice, as 'ball' and as 'box'"):
        opened(folder)
    assert "unreadable rows" in findings(folder)


def test_photos_below_or_outside_the_folder_of_images(tmp_path):
    folder = coco_data(tmp_path / "one", [OUTLINE], file="images/a.png")
    (folder / "images").mkdir()
    Image.fromarray(photo()).save(folder / "images" / "a.png")
    assert opened(folder)[0].mask(0).any()
    elsewhere = coco_data(tmp_path / "two", [OUTLINE])
    (tmp_path / "pics").mkdir()
    (elsewhere / "a.png").rename(tmp_path / "pics" / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: no such file \(looked for in .*two\); --images FOLDER"):
        opened(elsewhere)[0]
    assert opened(elsewhere, images=tmp_path / "pics")[0].mask(0).any()
    assert "missing images" in findings(elsewhere)
    assert findings(elsewhere, images=tmp_path / "pics") == {}


@pytest.mark.parametrize("spelled", [(48.0, 64.0), ("48", "64"), (" 48", "64 ")])
def test_sizes_in_any_spelling(tmp_path, spelled):
    assert opened(coco_data(tmp_path, [OUTLINE], size=spelled)).entries[0].size == (H, W)


def test_what_was_looked_at_is_remembered_until_it_changes(tmp_path, monkeypatch):
    folder = coco_data(tmp_path / "set", [OUTLINE])
    seen = []

    def look(**reading):
        seen.clear()
        return find_bad(opened(folder, **reading), True, lambda done, of: seen.append(done))

    assert look() == [] and seen == [1]
    assert look() == [] and seen == []
    assert look(mask_values="1") == [] and seen == [1]  # it may matter
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:200])
    (bad,) = look()
    assert seen == [1] and "truncated" in bad.message
    assert look() == [bad] and seen == []
    Image.fromarray(photo()).save(folder / "a.png")
    assert look() == [] and seen == [1]
    monkeypatch.setenv("REFSEG_CACHE", "/dev/null/nowhere")  # where nothing can be kept, everything is looked at again
    assert look() == [] and seen == [1] and look() == [] and seen == [1]
    monkeypatch.setenv("REFSEG_CACHE", "")
    assert look() == [] and seen == [1]


def test_without_what_is_bad_the_rest_is_used(tmp_path):
    rows = [
        {"image": "a.png", "expression": "the ball", "mask": [OUTLINE]},
        {"image": "a.png", "expression": "the point", "mask": [[1, 1]]},
        {"image": "a.png", "expression": "the box", "mask": [BOX]},
        {"image": "none.png", "expression": "gone", "mask": [BOX]},
        {"image": "a.png", "expression": "no mask at all"},
        {"image": "a.png", "expression": "the round thing", "mask": [OUTLINE]},
    ]
    path = own_data(tmp_path, None)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "{\n")
    with pytest.raises(ValueError, match="line 5: mask is missing"):
        opened(path)
    data = without_bad(opened(path, skip_bad=True))
    assert [e.text for e in data[0].expressions] == ["the ball", "the box", "the round thing"]
    assert len(data) == 1 and len(data[0].references) == 2 and len(data.left_out) == 4
    assert np.array_equal(data[0].mask(0), data[0].mask(2)) and data[0].mask(1)[30, 40]
    with pytest.raises(ValueError, match=r"given but empty.*; 1 more such; .*--skip-bad"):
        refuse_bad(opened(path, skip_bad=True))
