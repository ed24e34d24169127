"""The report in a real browser: figures draw, switches work, nothing leaves the page."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fastexai import mesh
from fastexai.report import report
from test_report import EVIL, explanation_of, path_of

LABEL = EVIL + "<script>alert(1)</script>"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    return report([explanation_of(LABEL), path_of(LABEL), explanation_of("joy", seed=1)], path)


class Opened:
    """A page whose sections are all built, and what it asked for and complained of."""

    def __init__(self, browser, path, viewport, scheme="light"):
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme)
        self.page = self.context.new_page()
        self.asked, self.complaints = [], []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("console", lambda m: m.type == "error" and self.complaints.append(m.text))
        self.page.goto(path.as_uri())
        self.sections = self.page.locator("[data-emotion]")
        for index in range(self.sections.count()):
            self.sections.nth(index).scroll_into_view_if_needed()
            self.sections.nth(index).locator(".js-plotly-plot").first.wait_for()

    def plot(self, name, section=0):
        return self.sections.nth(section).locator(f'[data-plot="{name}"]')

    def check(self, text):
        """Choose a radio button of the first section."""
        self.sections.first.get_by_label(text, exact=True).check()


@pytest.fixture(scope="module")
def desktop(browser, written):
    opened = Opened(browser, written, DESKTOP)
    yield opened
    opened.context.close()


def picture_of(locator):
    encoded = np.frombuffer(locator.screenshot(), np.uint8)
    return cv2.imdecode(encoded, cv2.IMREAD_COLOR).astype(int)


def test_every_figure_draws(desktop):
    plots = desktop.page.locator("[data-plot]")
    assert plots.count() >= 4 + 5
    for index in range(plots.count()):
        picture = picture_of(plots.nth(index))
        drawn = (np.abs(picture - picture[0, 0]).max(-1) > 40).mean()
        assert drawn > 0.01, plots.nth(index).get_attribute("aria-label")
    stills = desktop.page.locator(".card .still svg")
    assert stills.count() == 2
    assert stills.first.locator("path").count() > 898


def test_the_face_shines_on_the_lips_and_marks_what_is_kept(desktop):
    face = desktop.plot("face")
    relevance = np.array(face.evaluate("plot => Array.from(plot.data[0].intensity)"))
    lips = mesh.region_landmarks("lips")
    assert relevance[lips].sum() == pytest.approx(90, rel=0.02)
    assert face.evaluate("plot => plot.data[2].x.length") == 24
    hover = face.evaluate("plot => plot.data[0].text[61]")
    assert mesh.name(61) in hover
    assert "lips" in hover
    box = desktop.sections.first.get_by_label("mark the kept landmarks")
    box.uncheck()
    assert face.evaluate("plot => plot.data[2].x.length") == 0
    box.check()


@pytest.mark.parametrize(
    ("measure", "unit", "low"),
    [("absolute", "%", 0), ("signed", "logits", -1), ("relevance", "%", 0)],
)
def test_switches_recolour_face_bars_and_heat(desktop, measure, unit, low):
    desktop.check(measure)
    face, regions, heat = map(desktop.plot, ("face", "regions", "heat"))
    assert unit in face.evaluate("plot => plot.data[0].colorbar.title.text")
    assert np.sign(face.evaluate("plot => plot.data[0].cmin")) == low
    assert np.sign(heat.evaluate("plot => plot.data[0].zmin")) == low
    assert ("signed" in regions.inner_text()) == (measure == "signed")
    ends = face.evaluate("plot => plot.data[0].colorscale.map((stop) => stop[1])")
    assert len(set(ends)) == len(ends)  # a map, not two colours
    assert ends[0].startswith("rgb(68,1,84)") == (measure != "signed")  # viridis


def test_the_slider_moves_the_face_and_the_mark(desktop):
    slider = desktop.sections.first.locator("[data-time]")
    places = []
    for key, clock in (("Home", "0 %"), ("End", "100 %")):
        slider.press(key)
        assert desktop.sections.first.locator("[data-clock]").inner_text() == clock
        assert slider.get_attribute("aria-valuetext") == f"{clock} of the clip"
        places.append(desktop.plot("face").evaluate("plot => Array.from(plot.data[0].x)"))
        mark = desktop.plot("heat").evaluate("plot => plot.layout.shapes[0].x0")
        assert f"{mark} %" == clock
    assert np.abs(np.subtract(*places)).max() > 0.01
    desktop.check("this instant")
    late = desktop.plot("face").evaluate("plot => Array.from(plot.data[0].intensity)")
    slider.press("Home")
    early = desktop.plot("face").evaluate("plot => Array.from(plot.data[0].intensity)")
    assert len(early) == len(late) == 468
    desktop.check("the whole clip")


def test_it_plays_and_turns(desktop):
    section = desktop.sections.first
    play, clock = section.get_by_role("button", name="Play"), section.locator("[data-clock]")
    before = clock.inner_text()
    play.click()
    pause = section.get_by_role("button", name="Pause")
    assert pause.get_attribute("aria-pressed") == "true"
    clock.filter(has_not_text=before).wait_for()
    pause.click()
    assert play.get_attribute("aria-pressed") == "false"
    eyes = []
    for side in ("from its right", "from its left"):
        section.get_by_role("button", name=side).click()
        eyes.append(desktop.plot("face").evaluate("plot => plot.layout.scene.camera.eye.x"))
    assert eyes[0] * eyes[1] < 0
    section.get_by_role("button", name="front").click()


def test_the_keyboard_reaches_everything(desktop):
    page = desktop.page
    page.locator(".skip").focus()
    wanted = {"measure-0", "when-0", "front", "Play", "Regions as a table"}
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("""() => {
              const at = document.activeElement;
              return at.closest("[data-emotion='0']") ? at.name || at.textContent : "";
            }""")
        )
        if wanted <= reached:
            break
    assert wanted <= reached
    desktop.sections.first.locator("[value=relevance]").press("ArrowRight")
    assert desktop.sections.first.locator("[value=absolute]").is_checked()
    desktop.check("relevance")
    summary = desktop.sections.first.locator("summary").first
    summary.press("Enter")
    assert desktop.sections.first.locator("details table").first.is_visible()


def test_labels_stay_text(desktop):
    assert LABEL.replace("\u2028", "") in desktop.page.locator("h2").all_inner_texts()[2].replace(
        "\u2028", ""
    ).replace("\n", "")
    assert desktop.page.locator("script").count() == 3


def test_no_request_and_no_complaint(desktop, written):
    """After all that was done to the page above."""
    assert [url for url in desktop.asked if not url.startswith(("data:", "blob:"))] == [
        written.as_uri()
    ]
    assert desktop.complaints == []
    answer = desktop.page.evaluate(
        "fetch('http://127.0.0.1:9/').then(() => 'sent', (error) => error.message)"
    )
    assert answer != "sent"


def luminance(color):
    """Relative luminance of "rgb(r, g, b)"; WCAG 2.2."""
    rgb = np.array([float(c) for c in color[4:-1].split(",")[:3]]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(page, selector):
    """Contrast of a text with the panel or the page that it stands on."""
    text, ground = page.evaluate(
        """(selector) => {
          const element = document.querySelector(selector);
          const ground = element.closest(".panel, .cards li") || document.body;
          return [getComputedStyle(element).color, getComputedStyle(ground).backgroundColor];
        }""",
        selector,
    )
    low, high = sorted([luminance(text), luminance(ground)])
    return (high + 0.05) / (low + 0.05)


def test_a_phone_shows_all_of_it_by_day_and_by_night(browser, written):
    opened = Opened(browser, written, PHONE)
    page, inks = opened.page, []
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    box = opened.plot("regions").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for selector in (".lead", "figcaption", "a.card + p", ".kicker", "fieldset label"):
            assert contrast(page, selector) >= 4.5, selector
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (luminance(ground) < 0.1) == (scheme == "dark")
        inks.append(opened.plot("regions").evaluate("plot => plot.layout.font.color"))
    assert inks[0] != inks[1]
    assert opened.complaints == []
    opened.context.close()


def test_it_can_be_skipped_through_and_printed(browser, written):
    context = browser.new_context(viewport=DESKTOP, color_scheme="dark")
    page = context.new_page()
    page.goto(written.as_uri())
    page.keyboard.press("Tab")  # the first thing that the keyboard reaches
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert page.locator(".skip").bounding_box()["x"] >= 0
    paper = page.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert 2 <= paper.count(b"/Type /Page\n") + paper.count(b"/Type /Page/") <= 30
    assert page.locator(".js-plotly-plot").count() >= 9  # also what was never scrolled to
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator(".controls").first.is_visible()
    assert page.locator(".still.print svg").first.is_visible()
    assert luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= DESKTOP["width"]
    context.close()
