"""What everybody can read and reach: widths, contrast, names of controls, motion, light and dark."""

from __future__ import annotations

import pytest

from .conftest import ask

pytestmark = pytest.mark.browser

NAMELESS = """() => [...document.querySelectorAll('button, input, select, summary, dialog')].filter(one => {
  const labels = one.labels ? [...one.labels].map(label => label.textContent.trim()).join('') : '';
  const by = one.getAttribute('aria-labelledby');
  return !(labels || one.textContent.trim() || one.getAttribute('aria-label') || (by && document.getElementById(by)));
}).map(one => one.outerHTML)"""

# WCAG 2's contrast of an element's text with the first opaque ground behind it; `color-mix` grounds are blended.
FAINT = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const blend = (grounds) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const ground of grounds) { canvas.fillStyle = ground; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = (rgb) => rgb.map(c => c / 255).map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const faint = [];
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || !one.checkVisibility({ visibilityProperty: true }) || one.closest(':disabled')) continue;
    const grounds = [];
    for (let up = one; up; up = up.parentElement) grounds.unshift(getComputedStyle(up).backgroundColor);
    const ground = blend(grounds), ink = blend([...grounds, getComputedStyle(one).color]);
    const [a, b] = [light(ground), light(ink)].sort((x, y) => y - x);
    if ((a + .05) / (b + .05) < 4.5) faint.push([one.outerHTML.slice(0, 80), (a + .05) / (b + .05)]);
  }
  return faint;
}"""


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_window(open_page, width):
    page = open_page(width=width)
    for id in ("weighing", "filtering"):
        page.eval_on_selector(f"#{id}", "one => one.open = true")
    ask(page, "honey " + "x" * 300)
    page.eval_on_selector("#answer", "one => one.open = true")
    page.click("#hits > li:first-child .explain")
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(open_page, scheme):
    page = open_page(color_scheme=scheme)
    assert page.evaluate(FAINT) == []
    ask(page, "honey in winter")
    page.click("#hits > li:first-child .explain")
    assert page.locator("mark").count() > 2
    assert page.evaluate(FAINT) == []


def test_every_control_has_a_name_and_every_id_is_its_own(open_page):
    page = open_page()
    ask(page, "honey in winter")
    page.click("#hits > li:first-child .explain")
    assert page.evaluate(NAMELESS) == []
    found = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(found) == len(set(found))
    assert page.get_attribute("#status", "aria-live") == "polite"


def test_all_can_be_reached_by_tab_and_focus_shows(open_page):
    page = open_page()
    ask(page, "honey in winter")
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
        if page.evaluate("document.activeElement === document.body"):
            break  # once around
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none", page.evaluate("document.activeElement.outerHTML.slice(0, 90)")
    assert {"weight-lexical", "field", "operator", "expression", "explain"} <= reached


def test_the_theme_follows_the_system_until_the_switch_says_otherwise(open_page):
    page = open_page(color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    page.click("#theme")
    light = page.evaluate(paper)
    assert (dark, light) == ("rgb(21, 23, 26)", "rgb(251, 250, 247)")
    page.reload()
    assert page.evaluate(paper) == light
    assert page.inner_text("#theme") == "Theme: light"
    page.click("#theme")
    assert page.evaluate(paper) == dark


def test_who_wants_no_motion_gets_none(open_page):
    page = open_page(reduced_motion="reduce")
    ask(page, "honey")
    assert page.evaluate("getComputedStyle(document.querySelector('.bar span')).transitionDuration") == "0s"


def test_the_page_loads_nothing_from_elsewhere(open_page, server):
    page = open_page()
    ask(page, "honey")
    loaded = page.evaluate("performance.getEntriesByType('resource').map(one => one.name)")
    assert loaded
    assert [name for name in loaded if not name.startswith(server.url)] == []
