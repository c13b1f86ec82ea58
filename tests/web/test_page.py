"""The page in a real browser, as a person uses it, wide and on a phone."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from refseg.data.formats.rle import decode_rle

pytest.importorskip("fastapi", reason="the extra `web` is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

from served import Stub, picture, serving, stubbed  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH; `apt-get install chromium` brings one"),
]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Person:
    """Someone in front of the page; what goes wrong in it, and what it loads from elsewhere, is noted."""

    def __init__(self, browser, served, **how):
        self.context = browser.new_context(accept_downloads=True, **how)
        self.page = self.context.new_page()
        self.wrong, self.elsewhere = [], []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda said: self.wrong.append(said.text) if "Content Security" in said.text else None)
        self.page.on("request", lambda request: self._note(request.url, served.url))
        self.page.goto(served.url)

    def _note(self, url, home):
        if not url.startswith((home, "blob:", "data:")):
            self.elsewhere.append(url)

    def drop(self, content, name="photo.png", kind="image/png"):
        self.page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": content})

    def say(self, *expressions):
        self.page.fill("#expressions", "\n".join(expressions))

    def segment(self, cards=1):
        self.page.click("#go")
        self.page.wait_for_function("() => !document.querySelector('#go').disabled", timeout=60_000)
        assert self.page.locator(".card").count() == cards

    def download(self, name, card=0):
        with self.page.expect_download() as coming:
            self.page.locator(".card").nth(card).get_by_role("button", name=name, exact=True).click()
        return coming.value


@pytest.fixture
def visit(browser):
    people = []

    def arrive(served, **how):
        people.append(Person(browser, served, **{"viewport": WIDE} | how))
        return people[-1]

    yield arrive
    for person in people:
        assert person.wrong == [] and person.elsewhere == []
        person.context.close()


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_a_person_takes_an_example_compares_slides_and_downloads(visit, size, tmp_path):
    with serving(["lgformer-shapes", "lavt-shapes"]) as served:
        person = visit(served, viewport=size)
        page = person.page
        page.locator("#examples button").nth(2).click()
        page.wait_for_function("() => document.querySelector('#expressions').value.includes('square')")
        page.check("input[value=lavt-shapes]")
        person.segment(cards=2)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= size["width"]
        before = page.locator(".card").first.inner_text()
        with page.expect_response(lambda response: "/v1/answers/" in response.url and "0.95" in response.url):
            page.fill("#threshold", "0.95")
        page.wait_for_function(f"() => document.querySelector('.card').innerText !== {json.dumps(before)}")
        page.locator(".card").first.get_by_role("button", name="Why this mask").first.click()
        page.wait_for_selector("#why:not([hidden])")
        with page.expect_download() as coming:
            page.locator("#why-downloads button").nth(1).click()
        assert coming.value.path().read_text(encoding="utf-8").lstrip().startswith(("<svg", "<?xml"))
        assert page.evaluate("() => document.querySelector('#why').naturalWidth") > 500
        page.keyboard.press("Escape")
        answers = json.loads(person.download("JSON").path().read_text())
        mask = np.asarray(Image.open(person.download("Mask 1").path()).convert("RGB"))
        overlay = np.asarray(Image.open(person.download("Overlay", card=1).path()).convert("RGB"))
    wanted = decode_rle(answers["answers"][0]["segmentation"])
    assert answers["threshold"] == 0.95 and answers["model"] == "lgformer-shapes"
    assert np.array_equal(mask[..., 0] == 255, wanted) and set(np.unique(mask)) == {0, 255}
    assert overlay.shape == (*wanted.shape, 3)


def test_masks_are_painted_where_they_are(visit):
    with stubbed() as served:
        person = visit(served)
        person.drop(picture(40, 60))
        person.say("12")
        person.segment()
        pixels = np.asarray(Image.open(person.download("Overlay").path()).convert("RGB")).astype(int)
    original = np.full((40, 60, 3), 255)
    original[:, :30] = (255, 0, 0)
    changed = (pixels != original).any(2)
    assert changed[:, :12].all() and not changed[:, 12:].any()
    assert (pixels[5, 0] == (255, 176, 0)).all()  # the outline has the full colour


def test_what_is_missing_or_wrong_is_said(visit):
    with stubbed() as served:
        person = visit(served)
        page = person.page
        page.click("#go")
        assert "no image yet" in page.inner_text("#error")
        person.drop(b"no picture", "notes.txt", "text/plain")
        page.wait_for_function("() => document.querySelector('#error').textContent.includes('notes.txt')")
        person.drop(picture())
        page.wait_for_selector("#preview:not([hidden])")
        page.click("#go")
        assert "no expression yet" in page.inner_text("#error")
        person.say("left")
        page.uncheck("input[name=model]")
        page.click("#go")
        assert "No model" in page.inner_text("#error")
        page.check("input[name=model]")
        person.say("fails")
        person.segment(cards=0)
        assert "the model failed" in page.inner_text("#error")
        person.say("0")
        person.segment()
        assert "nothing found" in page.inner_text(".card")
        person.say("a dog")
    page.click("#go")
    page.wait_for_function("() => document.querySelector('#error').textContent.includes('does not answer')")


def test_words_that_were_never_read_are_told(visit):
    with stubbed(Stub(words={"red", "part"})) as served:
        person = visit(served)
        person.drop(picture())
        person.say("red part", "red dog")
        person.segment()
        assert person.page.inner_text(".notes") == "never read: dog; stub knows drawn shapes only"


def test_the_keyboard_is_enough_and_work_can_be_cancelled(visit):
    stub = Stub(together=False)
    with stubbed(stub) as served:
        person = visit(served)
        page = person.page
        page.wait_for_selector("#examples button >> nth=5")
        page.focus("#examples button >> nth=0")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('#expressions').value")
        page.focus("#expressions")
        stub.free.clear()
        page.keyboard.press("Control+Enter")
        page.wait_for_selector("#cancel:not([hidden])")
        assert stub.began.wait(20)
        page.focus("#cancel")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('#status').textContent.startsWith('Cancelled')")
        stub.free.set()
        page.focus("#expressions")
        page.keyboard.press("Control+Enter")
        page.wait_for_selector(".card")
        page.focus("#threshold")
        page.keyboard.press("ArrowRight")
        assert page.inner_text("#threshold-value") == "0.51"


def test_an_answer_without_probabilities_has_no_slider(visit):
    with stubbed(Stub(log_odds=False, together=False)) as served:
        person = visit(served)
        person.drop(picture())
        person.say("left")
        person.segment()
        assert person.page.is_disabled("#threshold") and "score" not in person.page.inner_text(".card")


def test_a_token_is_asked_for_once(visit):
    with stubbed(token="s3cret") as served:
        person = visit(served)
        page = person.page
        page.fill("#token", "s3cret")
        page.keyboard.press("Enter")
        page.wait_for_selector("input[name=model]")
        person.drop(picture())
        person.say("left")
        person.segment()
        assert "1 model answered" in page.inner_text("#status")


@pytest.mark.parametrize("kind", ["WEBP", "JPEG", "PNG"])
@pytest.mark.parametrize("turned", [3, 6])
def test_masks_lie_where_the_browser_shows_them_however_a_photo_is_turned(visit, kind, turned):
    photo = Image.open(io.BytesIO(picture(40, 60)))
    exif = photo.getexif()
    exif[274] = turned
    content = io.BytesIO()
    photo.save(content, format=kind, exif=exif, **({"quality": 95} if kind != "PNG" else {}))
    with stubbed() as served:
        person = visit(served)
        person.drop(content.getvalue(), f"turned.{kind.lower()}", f"image/{kind.lower()}")
        person.page.wait_for_selector("#preview:not([hidden])")
        person.say("the red part")
        person.segment()
        overlay = np.asarray(Image.open(person.download("Overlay").path()).convert("RGB")).astype(int)
        mask = np.asarray(Image.open(person.download("Mask").path()).convert("L")) > 127
    assert overlay.shape[:2] == mask.shape and mask.mean() == pytest.approx(0.5, abs=0.1)
    assert (overlay[~mask] > 200).all()  # the white part is not painted
    assert (overlay[mask][:, 2] < 120).all()


def test_a_token_that_no_header_can_carry_is_not_kept_and_escape_leaves_it(visit):
    with stubbed(token="s3cret") as served:
        person = visit(served)
        page = person.page
        page.fill("#token", "se…cret")
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelector('#error').textContent.includes('wants a token')")
        page.reload()
        page.wait_for_selector("#token-dialog[open]")
        page.keyboard.press("Escape")
        page.wait_for_function("() => document.querySelector('#error').textContent.includes('wants a token')")
        page.reload()
        page.fill("#token", " s3cret ")
        page.keyboard.press("Enter")
        page.wait_for_selector("input[name=model]")


def test_a_drag_of_the_slider_asks_once_at_a_time_and_ends_where_it_ends(visit):
    with stubbed() as served:
        person = visit(served)
        page = person.page
        person.drop(picture())
        person.say("left")
        person.segment()
        asked = []
        page.on("request", lambda request: asked.append(request.url) if "/v1/answers/" in request.url else None)
        page.evaluate(
            """() => { const slider = document.querySelector('#threshold');
            for (let at = 51; at <= 95; at++) {
              slider.value = at / 100;
              slider.dispatchEvent(new Event('input'));
            } }"""
        )
        page.wait_for_function("() => document.querySelector('.card small').textContent.includes('score')")
        page.wait_for_timeout(300)
        answer = json.loads(person.download("JSON").path().read_text())
    assert answer["threshold"] == 0.95 and len(asked) <= 3
