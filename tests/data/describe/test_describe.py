"""Expressions from instance masks: what is said is true, of one object alone, and by a margin."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from ball import ORIENTATION, coco_data, photo
from refseg.data.describe import KINDS, Describer, Options, describe
from refseg.data.describe.coco import Photos
from refseg.data.describe.generate import reason_against
from refseg.data.describe.program import Description, Extreme, Place, Rank, Relation
from refseg.data.describe.scene import Scene, Thing
from refseg.data.describe.solver import Solver, at_place, only
from refseg.data.describe.words import alike, clean, phrase, plural, with_article
from refseg.data.formats.rle import decode_rle
from refseg.data.sets import read_splits
from refseg.data.shapes.stream import Stream
from refseg.masks import largest_piece

H, W = 200, 300


def thing(category, left, top, right, bottom, crowd=False, key=None):
    """A filled rectangle; pixels, right and bottom exclusive."""
    mask = np.zeros((H, W), bool)
    mask[top:bottom, left:right] = True
    return Thing(key or f"{category}{left}", category, mask, crowd)


def scene(*things):
    return Scene(tuple(things))


def fitting(made, description):
    return only(Solver(made).solve(description))


def said(made, index, per_object=50):
    found, _ = describe(made, per_object, Stream("test"))
    return {(item.kind, item.description.part) for item in found if item.thing == index}


# What people would say at the very least, written down without margins: each returns the things that fit.


def middle(one):
    rows, columns = np.nonzero(one.mask)
    return columns.mean() + 0.5, rows.mean() + 0.5


def loosely_fitting(made, description):
    named = [i for i, one in enumerate(made.things) if one.category == description.category]
    part, things = description.part, made.things
    if part is None:
        return named
    if isinstance(part, Place):
        if part.name.startswith("far"):
            ends = {i: middle(things[i])[0] * (1 if part.name == "far left" else -1) for i in named}
            return [i for i in named if ends[i] == min(ends.values())]
        x = {i: middle(things[i])[0] / W for i in named}
        y = {i: middle(things[i])[1] / H for i in named}
        tests = {
            "left": lambda i: x[i] < 0.5, "right": lambda i: x[i] > 0.5, "top": lambda i: y[i] < 0.5,
            "bottom": lambda i: y[i] > 0.5, "middle": lambda i: 0.3 < x[i] < 0.7,
        }  # fmt: skip
        return [i for i in named if all(tests[word](i) for word in part.name.split())]
    if isinstance(part, Rank):
        order = sorted(named, key=lambda i: middle(things[i])[0], reverse=part.side == "right")
        return [order[part.number - 1]]
    if isinstance(part, Extreme):
        areas = [int(things[i].mask.sum()) for i in named]
        wanted = max(areas) if part.name == "largest" else min(areas)
        return [i for i, area in zip(named, areas, strict=True) if area == wanted]
    assert isinstance(part, Relation)
    (anchor,) = loosely_fitting(made, part.anchor)
    ax, _ = middle(things[anchor])
    if part.name in ("left of", "right of"):
        sign = 1 if part.name == "left of" else -1
        return [i for i in named if sign * middle(things[i])[0] < sign * ax]
    distances = {i: nearest(things[i].mask, things[anchor].mask) for i in named}
    if part.name == "closest to":
        return [i for i in named if distances[i] == min(distances.values())]
    return [i for i in named if distances[i] < {"next to": 30, "on": 5}[part.name]]


def nearest(one, two):
    """Least distance between pixels of two masks; every pixel of their borders is looked at."""
    edges = []
    for mask in (one, two):
        y, x = np.nonzero(mask)
        border = [k for k in range(len(y)) if not mask[max(0, y[k] - 1):y[k] + 2, max(0, x[k] - 1):x[k] + 2].all()
                  or y[k] in (0, H - 1) or x[k] in (0, W - 1)]  # fmt: skip
        edges.append(np.stack([y[border], x[border]], 1).astype(float))
    return float(np.sqrt(((edges[0][:, None] - edges[1][None]) ** 2).sum(-1)).min())


def random_scene(random):
    things = []
    for number in range(random.integers(2, 7)):
        width, height = random.integers(25, 110), random.integers(25, 110)
        left, top = random.integers(4, W - 4 - width), random.integers(4, H - 4 - height)
        category = str(random.choice(["dog", "person", "cup", "dining table", "umbrella"], p=[0.4, 0.3, 0.1, 0.1, 0.1]))
        things.append(thing(category, left, top, left + width, top + height, key=str(number)))
    return scene(*things)


@pytest.mark.slow
def test_what_is_said_fits_one_object_even_without_any_margin():
    random = np.random.default_rng(0)
    kinds = dict.fromkeys(KINDS, 0)
    for _ in range(150):
        made = random_scene(random)
        found, left_out = describe(made, 4, Stream("truth"))
        assert len({item.thing for item in found}) + sum(left_out.values()) == len(made.things)
        for item in found:
            assert loosely_fitting(made, item.description) == [item.thing], item
            kinds[item.kind] += 1
    assert min(kinds.values()) >= 5, kinds


def test_a_reference_that_is_not_needed_is_not_said():
    made = scene(thing("dog", 30, 60, 110, 140), thing("umbrella", 180, 60, 250, 140))
    assert ("category", None) in said(made, 0)
    assert {kind for kind, _ in said(made, 0)} <= {"category", "relation"}


def test_a_crowd_of_its_kind_makes_everything_unclear_that_a_member_could_fit():
    person, crowd = thing("person", 20, 60, 80, 180), thing("person", 200, 20, 290, 100, crowd=True)
    assert ("category", None) in said(scene(person), 0)
    made = scene(person, crowd)
    parts = {part for _, part in said(made, 0)}
    assert parts <= {Place("left"), Place("far left"), Place("bottom left")} and Place("left") in parts
    assert fitting(made, Description("person", Rank("left", 1))) is None
    assert fitting(made, Description("person", Extreme("largest"))) is None
    wide = scene(person, thing("person", 60, 20, 290, 100, crowd=True))
    assert fitting(wide, Description("person", Place("left"))) is None
    assert not said(made, 1)


def test_what_people_mistake_for_it_counts():
    car, truck = thing("car", 30, 60, 110, 140), thing("truck", 180, 60, 250, 140)
    assert fitting(scene(car, truck), Description("car")) is None
    assert fitting(scene(car, truck), Description("car", Place("left"))) == 0
    assert fitting(scene(car, thing("dog", 180, 60, 250, 140)), Description("car")) == 0
    assert alike("cup", "wine glass") and alike("thing", "thing") and not alike("person", "tie")


@pytest.mark.parametrize(
    ("others", "part", "clear"),
    [
        ([(180, 60, 260, 140)], Place("left"), True),
        ([(130, 60, 190, 140)], Place("left"), False),  # its middle is at 160 of 300: some would call it left
        ([(180, 60, 260, 140)], Rank("left", 1), True),
        ([(40, 145, 120, 195)], Rank("left", 1), False),  # ten pixels further right
        ([(180, 80, 225, 125)], Extreme("largest"), True),  # 6400 to 2025
        ([(180, 60, 250, 130)], Extreme("largest"), False),  # 6400 to 4900
        ([(255, 80, 300, 125)], Extreme("largest"), False),  # cut off: it might be as large
        ([(180, 20, 290, 150)], Extreme("smallest"), True),  # 14300 to 6400
        ([(180, 60, 260, 140)], Extreme("smallest"), False),
    ],
)
def test_margins(others, part, clear):
    made = scene(thing("dog", 30, 60, 110, 140), *(thing("dog", *box) for box in others))
    assert fitting(made, Description("dog", part)) == (0 if clear else None)


@pytest.mark.parametrize(
    ("place", "box", "answer"),
    [
        ("left", (30, 60, 110, 140), (True, True)),
        ("left", (80, 60, 160, 140), (False, True)),  # its middle is at 0.4
        ("left", (10, 60, 190, 140), (False, True)),  # its middle is at a third, but it reaches beyond the middle
        ("left", (140, 60, 220, 140), (False, False)),
        ("right", (190, 60, 270, 140), (True, True)),
        ("top", (80, 5, 160, 85), (True, True)),
        ("bottom", (80, 5, 160, 85), (False, False)),
        ("far left", (10, 60, 70, 140), (True, True)),
        ("far left", (40, 60, 120, 140), (False, True)),
        ("middle", (110, 60, 190, 140), (True, True)),
        ("middle", (110, 5, 190, 45), (False, True)),  # at the top
        ("middle", (10, 60, 90, 140), (False, False)),
        ("top left", (10, 5, 90, 85), (True, True)),
        ("top left", (10, 80, 90, 160), (False, False)),
    ],
)
def test_places(place, box, answer):
    assert at_place(place, thing("dog", *box)) == answer


def test_order_counts_a_row_only():
    row = [thing("cow", left, 60, left + 50, 130) for left in (20, 120, 220)]
    for side, index in (("left", 1), ("right", 1)):
        assert fitting(scene(*row), Description("cow", Rank(side, 2))) == index
    assert fitting(scene(*row), Description("cow", Rank("right", 1))) == 2
    high = thing("cow", 120, 4, 170, 50)
    assert fitting(scene(row[0], high, row[2]), Description("cow", Rank("left", 2))) is None
    assert fitting(scene(row[0], high, row[2]), Description("cow", Rank("left", 1))) == 0
    tiny = thing("cow", 280, 100, 285, 105)  # where this one was annotated, others were not
    assert fitting(scene(*row, tiny), Description("cow", Rank("left", 1))) is None


def test_relations_need_a_clear_anchor_and_no_rival():
    bench, near, far = thing("bench", 100, 60, 180, 140), thing("dog", 30, 70, 98, 140), thing("dog", 230, 70, 290, 140)
    made = scene(bench, near, far)
    on = Description("bench")
    for name, index in (("left of", 1), ("right of", 2), ("next to", 1), ("closest to", 1)):
        assert fitting(made, Description("dog", Relation(name, on))) == index
    two = scene(*made.things, thing("bench", 10, 10, 60, 50))
    assert fitting(two, Description("dog", Relation("left of", on))) is None
    rival = scene(*made.things, thing("dog", 105, 4, 130, 50))
    assert fitting(rival, Description("dog", Relation("left of", on))) is None


def test_on_is_for_what_rests_on_what_carries():
    table = thing("dining table", 40, 100, 260, 190)
    cup, other = thing("cup", 80, 50, 130, 100), thing("cup", 180, 10, 230, 60)
    on = Description("cup", Relation("on", Description("dining table")))
    assert fitting(scene(table, cup, other), on) == 1
    assert fitting(scene(table, cup, thing("cup", 180, 50, 230, 100)), on) is None
    assert ("relation", on.part) in said(scene(table, cup, other), 1)
    dog = scene(table, thing("dog", 80, 40, 140, 100))  # behind the table rather than on it
    assert not any(isinstance(part, Relation) and part.name == "on" for _, part in said(dog, 1))


def in_pieces():
    mask = np.zeros((H, W), bool)
    mask[50:90, 50:110] = mask[120:160, 50:110] = True
    return Thing("pieces", "dog", mask)


@pytest.mark.parametrize(
    ("things", "reason"),
    [
        ([thing("dog", 50, 50, 130, 130)], None),
        ([thing("dog", 50, 50, 130, 130, crowd=True)], "a crowd"),
        ([thing("dog", 50, 50, 80, 80)], "tiny"),  # 900 of 60000 pixels
        ([thing("dog", 50, 10, 70, 190)], "tiny"),  # large enough, but 20 pixels wide
        ([thing("dog", 0, 50, 40, 100)], "small and cut off"),
        ([thing("dog", 50, 50, 130, 130), thing("cup", 55, 55, 135, 130)], "near-duplicates"),
        ([thing("dog", 50, 50, 130, 130), thing("dog", 60, 60, 90, 90)], "near-duplicates"),  # a part of it
        ([thing("dog", 50, 50, 130, 130), thing("cup", 60, 60, 90, 90)], None),
        ([in_pieces()], "in pieces"),
        ([in_pieces(), thing("cup", 50, 90, 110, 120)], "in pieces"),
        ([thing("dog", 20 + 45 * i, 50, 60 + 45 * i, 100) for i in range(6)], "more than 5 of its category"),
        ([thing("dining table", 50, 50, 130, 130)], "outlined loosely"),
    ],
)
def test_what_is_not_described(things, reason):
    assert reason_against(scene(*things), 0) == reason


def test_what_others_hide_is_not_described():
    mask = np.zeros((H, W), bool)
    mask[40:160, 40:160] = True
    mask[70:160, 75:160] = False
    hidden = Thing("hidden", "couch", mask)
    assert reason_against(scene(hidden), 0) is None
    assert reason_against(scene(hidden, thing("person", 75, 70, 160, 160)), 0) == "hidden by others"


def flood(mask):
    """Size of the largest piece by walking from pixel to pixel, corners included."""
    left, best = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}, 0
    while left:
        waiting, size = [left.pop()], 0
        while waiting:
            y, x = waiting.pop()
            size += 1
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= around
            waiting += around
        best = max(best, size)
    return best


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.8])
def test_largest_piece_equals_a_walk_over_the_pixels(share):
    random = np.random.default_rng(int(share * 100))
    for _ in range(30):
        mask = random.random((13, 17)) < share
        assert int(largest_piece(mask).sum()) == flood(mask)
    assert not largest_piece(np.zeros((4, 5), bool)).any()


def test_measures_of_a_rectangle():
    one, two = thing("dog", 30, 40, 90, 100), thing("cup", 120, 40, 150, 60)
    made = scene(one, two)
    assert one.area == pytest.approx(60 * 60 / (H * W)) and one.box == (0.1, 0.2, 0.3, 0.5)
    assert one.x == pytest.approx((0.2, 0.2)) and one.y == pytest.approx((0.35, 0.35)) and not one.cut
    assert made.gap(one, two) == pytest.approx(30 / np.hypot(H, W)) and made.gap(one, one) == 0
    assert thing("dog", 0, 40, 30, 60).cut and one.whole == 1
    assert made.resting(one, thing("bed", 30, 100, 60, 150)) == pytest.approx(0.5)
    mask = np.zeros((H, W), bool)
    mask[40:60, 90:120] = mask[40, 90:150] = True
    assert made.covered(Thing("bed", "bed", mask)) == pytest.approx(30 * 19 / (60 * 20))
    assert made.covered(one) == 0


def test_nouns():
    nouns = {
        "dog": "dogs", "bus": "buses", "bench": "benches", "wine glass": "wine glasses", "knife": "knives",
        "person": "people", "sheep": "sheep", "mouse": "mice", "couch": "couches", "toothbrush": "toothbrushes",
        "pony": "ponies", "toy": "toys", "pair of skis": "pairs of skis", "fire hydrant": "fire hydrants",
    }  # fmt: skip
    assert {noun: plural(noun) for noun in nouns} == nouns
    articles = ["an apple", "a dog", "an umbrella", "a unicycle", "an hourglass", "an oven", "a one", "an urn"]
    assert [with_article(text.split()[1]) for text in articles] == articles
    assert [clean(name) for name in ("traffic_light", "cup_(drink)", "Hot Dog", "(x)")] == [
        "traffic light", "cup", "hot dog", "(x)"]  # fmt: skip


def test_wordings():
    table = Description("dining table")
    wanted = {
        Description("dog", Rank("left", 2)): {"the second dog from the left", "second dog from the left"},
        Description("scissors", Rank("right", 3)): {
            "the third pair of scissors from the right", "third pair of scissors from the right"},
        Description("skis"): {"the skis", "skis"},
        Description("umbrella"): {"the umbrella", "umbrella", "an umbrella"},
        Description("knife", Extreme("smallest")): {
            "the smaller knife", "smaller knife", "the smaller of the knives", "the smaller of the two knives"},
        Description("cup", Relation("next to", table)): {
            "the cup next to the table", "cup next to the table", "the cup beside the table", "cup beside the table"},
        Description("bus", Relation("on", Description("car", Rank("left", 1)))): {
            "the bus on the leftmost car", "bus on the leftmost car"},
        Description("dog", Place("far left")): {"the dog on the far left", "dog on the far left"},
    }  # fmt: skip
    stream = Stream("words")
    for description, texts in wanted.items():
        assert {phrase(description, 2, stream) for _ in range(200)} == texts
    of_three = {phrase(Description("dog", Extreme("largest")), 3, stream) for _ in range(200)}
    assert of_three == {f"{a}{size} dog" for a in ("the ", "") for size in ("largest", "biggest")} | {
        "the largest of the dogs", "the biggest of the dogs"}  # fmt: skip


# Files


def write_coco(folder, images=4, change=None):
    """Photos with a dog on the left, one on the right, an umbrella, and in every second one a crowd of people."""
    (folder / "photos").mkdir(parents=True)
    content = {
        "images": [],
        "annotations": [],
        "categories": [{"id": i, "name": n} for i, n in ((1, "dog"), (2, "umbrella"), (3, "person"))],
    }
    boxes = [(1, 20, 60, 90, 140), (1, 210, 60, 280, 140), (2, 120, 10, 180, 60)]
    for number in range(images):
        noise = np.random.default_rng(number).integers(0, 255, (H, W, 3), np.uint8)
        Image.fromarray(noise).save(folder / "photos" / f"{number}.png")
        content["images"].append({"id": number, "file_name": f"{number}.png", "height": H, "width": W})
        for place, (category, x, y, right, bottom) in enumerate(boxes):
            outline = [[x, y, right, y, right, bottom, x, bottom]]
            content["annotations"].append({"id": 10 * number + place, "image_id": number, "category_id": category,
                                           "segmentation": outline, "iscrowd": 0})  # fmt: skip
        if number % 2:
            counts = [0, H * 40, H * (W - 40)]
            content["annotations"].append({"id": 10 * number + 9, "image_id": number, "category_id": 3, "iscrowd": 1,
                                           "segmentation": {"size": [H, W], "counts": counts}})  # fmt: skip
    if change:
        change(content)
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


def run(folder, **options):
    describer = Describer(Photos(folder / "coco.json"), folder / "photos", folder / "out", Options(**options))
    return list(describer.rows()), describer.summary()


def test_a_file_is_read_with_polygons_and_crowds(tmp_path):
    photos = Photos(write_coco(tmp_path))
    made = photos.scene(photos.photos["1"])
    assert [(one.key, one.category, one.crowd) for one in made.things] == [
        ("10", "dog", False), ("11", "dog", False), ("12", "umbrella", False), ("19", "person", True)]  # fmt: skip
    wanted = np.zeros((H, W), bool)
    wanted[60:140, 20:90] = True
    assert (made.things[0].mask ^ wanted).sum() <= 400  # COCO's rule for pixels on the edge
    assert made.things[3].mask[:, :40].all() and not made.things[3].mask[:, 40:].any()


def test_rows_are_the_plain_format(tmp_path):
    write_coco(tmp_path)
    rows, summary = run(tmp_path, val_percent=50)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert {"image", "expression", "mask", "split", "image_id", "ref_id", "sent_id", "category", "ann_id",
            "kind"} == set(rows[0])  # fmt: skip
    assert summary["expressions"] == len(rows) == sum(summary["kinds"].values()) == sum(summary["splits"].values())
    assert summary["left_out"]["a crowd"] == 2 and summary["images"] == 4 and summary["objects"] == 12
    splits = read_splits(tmp_path / "out" / "data.jsonl")
    read = [entry for split in splits for entry in splits[split]]
    assert sum(len(entry.expressions) for entry in read) == len(rows) and len(read) == 4
    assert all(entry.file.resolve() == tmp_path / "photos" / f"{entry.image_id}.png" for entry in read)
    dog = next(row for row in rows if row["ref_id"] == "0")
    assert decode_rle(dog["mask"])[70:130, 25:85].all() and decode_rle(dog["mask"]).sum() < 6200
    assert "left" in " ".join(row["expression"] for row in rows if row["ref_id"] == "0")


def test_seed_and_number_per_object(tmp_path):
    write_coco(tmp_path)
    assert run(tmp_path, seed=1) == run(tmp_path, seed=1)
    assert run(tmp_path, seed=1)[0] != run(tmp_path, seed=2)[0]
    for most in (1, 2):
        rows = run(tmp_path, per_object=most)[0]
        counts = [sum(row["ref_id"] == ref for row in rows) for ref in {row["ref_id"] for row in rows}]
        assert max(counts) == most
        assert all(
            one["expression"] != two["expression"] for one, two in pairwise(rows) if one["ref_id"] == two["ref_id"]
        )
    assert {row["image_id"] for row in run(tmp_path, limit=2)[0]} == {"0", "1"}


def test_copies_of_an_image_are_in_one_split(tmp_path):
    write_coco(tmp_path, images=30)
    for number in range(15):
        (tmp_path / "photos" / f"{15 + number}.png").write_bytes((tmp_path / "photos" / f"{number}.png").read_bytes())
    rows = run(tmp_path, val_percent=50)[0]
    split = {row["image_id"]: row["split"] for row in rows}
    assert set(split.values()) == {"train", "val"}
    assert all(split[str(number)] == split[str(15 + number)] for number in range(15))


def test_images_that_cannot_be_used_are_counted(tmp_path):
    write_coco(tmp_path, images=5)
    (tmp_path / "photos" / "0.png").unlink()
    (tmp_path / "photos" / "1.png").write_text("no picture")
    Image.new("RGB", (W, H + 1)).save(tmp_path / "photos" / "2.png")
    turned = Image.new("RGB", (H, W))  # stored on its side, shown upright: of the annotated size
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "photos" / "3.png", exif=exif)
    rows, summary = run(tmp_path)
    assert summary["images_left_out"] == {"missing": 1, "unreadable": 1, "of another size than annotated": 1}
    assert {row["image_id"] for row in rows} == {"3", "4"}


def test_a_folder_without_the_images_and_nothing_to_say_are_errors(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "empty").mkdir()
    photos = Photos(tmp_path / "coco.json")
    with pytest.raises(ValueError, match=r"empty: holds none of the images .* for example '3.png'"):
        list(Describer(photos, tmp_path / "empty", tmp_path, Options()).rows())
    with pytest.raises(ValueError, match="none: no such folder"):
        Describer(photos, tmp_path / "none", tmp_path, Options())
    write_coco(tmp_path / "b", change=lambda content: content.update(annotations=content["annotations"][:1]))
    content = json.loads((tmp_path / "b" / "coco.json").read_text())
    content["annotations"][0]["segmentation"] = [[10, 10, 20, 10, 20, 20]]
    (tmp_path / "b" / "coco.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"no object can be described \(tiny, "):
        run(tmp_path / "b")


def first(which, **fields):
    def change(content):
        content[which][0].update(fields)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.pop("categories"), "annotation 0: category 1 is not among the categories"),
        (lambda content: content.update(images={}), "images: {}; a list is accepted"),
        (first("images", height=0), "image 0: width 300, height 0"),
        (first("images", height=None, width=None), "image 0: no height and width"),
        (first("images", file_name=3), "image 0: file_name: 3"),
        (first("images", id=1), "image 1: there twice"),
        (first("annotations", image_id=77), "annotation 0: image 77 is not among the images"),
        (first("annotations", category_id=[]), "annotation 0: category_id"),
        (first("annotations", category_id=None), "annotation 0: no category_id"),
        (first("annotations", id=1), "annotation 1: there twice"),
        (first("annotations", segmentation=None), "annotation 0: no segmentation"),
        (first("annotations", segmentation=3), "annotation 0: mask 3"),
        (first("annotations", segmentation={"size": [3, 3], "counts": [9]}), "annotation 0: mask of 3x3 pixels"),
        (first("categories", name=None), "category number 0: name"),
    ],
)
def test_malformed_files_are_refused(tmp_path, change, message):
    write_coco(tmp_path, change=change)
    with pytest.raises(ValueError, match=message):
        run(tmp_path)


@pytest.mark.parametrize(
    ("orientation", "turned", "used"),
    [("fitting", 1, 1), ("fitting", 3, 0), ("shown", 3, 1), ("stored", 3, 1), ("fitting", 6, 0), ("stored", 6, 1),
     ("shown", 6, 0)],
)  # fmt: skip
def test_a_photo_that_may_have_been_annotated_turned_is_asked_about(tmp_path, orientation, turned, used):
    """ "left" was written of what is shown on the right."""
    left, right = [3, 8, 29, 8, 29, 40, 3, 40], [35, 8, 61, 8, 61, 40, 35, 40]
    file = coco_data(tmp_path / "a", [left]) / "instances.json"
    content = json.loads(file.read_text())
    content["annotations"].append({**content["annotations"][0], "id": 2, "segmentation": [right]})
    file.write_text(json.dumps(content))
    exif = Image.Exif()
    exif[ORIENTATION] = turned
    Image.fromarray(photo()).save(tmp_path / "a" / "a.png", exif=exif)
    photos = Photos(tmp_path / "a" / "instances.json")
    describer = Describer(photos, tmp_path / "a", tmp_path, Options(orientation=orientation))
    if used:
        assert [row["image"] for row in describer.rows()] and describer.summary()["images"] == 1
        return
    with pytest.raises(ValueError, match="another size" if orientation == "shown" else "--orientation stored or shown"):
        list(describer.rows())
