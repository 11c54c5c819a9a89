"""The report: one well-formed file without links or scripts, whose pictures stand where the numbers say."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from plait.eval import Collection, Plan, evaluate_many, load_beir
from plait.eval.page import html_report
from plait.eval.pictures import Dot, curve_svg, intervals_svg, reliability_svg, wins_svg
from plait.retriever import Retriever

from .conftest import QRELS, QUERIES, beir

NASTY = "<script>alert('x')</script> & \"quoted\""
VOID = {"meta", "br"}


class Checked(HTMLParser):
    """Collects tags, text and attributes; every tag must be closed in order."""

    def __init__(self):
        super().__init__()
        self.tags, self.open, self.text, self.attributes = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def checked(page):
    parser = Checked()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def numbers(svg, pattern):
    return [float(found) for found in re.findall(pattern, svg)]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    corpus = {"a": (NASTY, "apple banana"), "b": ("", "apple apple apple"), "e": ("", "elder")}
    dataset = load_beir(beir(folder / "fruit", corpus, {**QUERIES, "q1": f"apple {NASTY}"}, QRELS))
    with Retriever.create(folder / "i", strands="lexical") as retriever:
        retriever.add(dataset.documents())
        retriever.commit()
        plans = [Plan("old", {"strands": "lexical"}), Plan(NASTY.replace("/", ""), {"depth": 7})]
        runs = {"worse": {"q1": {"b": 1.0, "a": 0.5}, "q3": {"x": 2.0, "e": 1.0}}}
        yield html_report(evaluate_many([Collection(dataset, retriever, plans, runs)], sizes=[3]))


def test_it_opens_offline(page):
    parser = checked(page)
    assert set(parser.tags) & {"script", "link", "img", "iframe", "object"} == set()
    assert {name for name, _ in parser.attributes} & {"src", "href", "onclick", "onload"} == set()
    assert "http" not in page
    assert "@import" not in page
    assert "url(" not in page
    assert "prefers-color-scheme: dark" in page


def test_everything_a_user_wrote_is_text(page):
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page
    text = "".join(checked(page).text)
    assert NASTY in text


def test_it_says_what_was_measured(page):
    text = " ".join(" ".join(checked(page).text).split())
    for expected in (
        "Evaluation on fruit", "fruit test, 4 queries, 6 judgements", "Differences from old", "worse against old",
        "paired randomisation test", "10,000 samples, seed 0", "dataset sha256 corpus", "snowball-english",
        "nDCG@10 against corpus size", "score descending, then document id descending",
        "worse has no hits for 2 of 4 judged queries; each counts as 0.",
        "Told: the 10 greatest wins and the 10 greatest losses, of each 10 documents that moved, at most.",
    ):  # fmt: skip
        assert expected in text
    assert "Rows of several means" not in text
    assert page.count("<details>") == 2, "two queries differ"


def test_every_picture_is_xml(page):
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 4
    for picture in pictures:
        assert ET.fromstring(picture).attrib["role"] == "img"


def test_dots_and_whiskers_stand_in_proportion():
    svg = intervals_svg([Dot("a", 0.5, 0.4, 0.6), Dot("b", 0.6, 0.5, 0.8)], "nDCG@10")
    a, b = numbers(svg, r'<circle cx="([\d.]+)"')
    (a_low, a_high), (b_low, b_high) = (
        map(float, pair) for pair in re.findall(r'class="line" d="M([\d.]+) [\d.]+H([\d.]+)', svg)
    )
    assert a - a_low == pytest.approx(a_high - a, abs=0.11)
    assert b - a == pytest.approx(a - a_low, abs=0.11)
    assert b_low == pytest.approx(a, abs=0.11)
    assert b_high - b == pytest.approx(2 * (b - b_low), abs=0.21)
    assert "b: 0.6000 (0.5000 to 0.8000)" in svg
    assert intervals_svg([], "x") == ""
    ET.fromstring(intervals_svg([Dot("<same & long name that has to be cut>", 0.5, 0.5, 0.5)], "<m>"))


def test_wins_are_bars_in_order_and_ties_take_their_room():
    svg = wins_svg([-0.5, 1.0, 0.0, 0.5], "new")
    bars = re.findall(r'<rect class="(win|loss)" x="([\d.]+)" y="[\d.]+" width="[\d.]+" height="([\d.]+)"', svg)
    assert [kind for kind, _, _ in bars] == ["win", "win", "loss"]
    heights = [float(height) for _, _, height in bars]
    assert heights == pytest.approx([2 * heights[1], heights[1], heights[1]], abs=0.02)
    places = [float(x) for _, x, _ in bars]
    assert places[2] - places[1] == pytest.approx(2 * (places[1] - places[0]), abs=0.02)
    many = wins_svg([i / 1000 for i in range(1, 5001)], "new")
    assert many.count("<rect") == 240
    assert wins_svg([], "new") == ""
    ET.fromstring(wins_svg([0.0, 0.0], "new"))


def test_a_curve_has_a_point_for_each_size():
    svg = curve_svg([10, 100, 1000], {"lexical": [0.9, 0.8, 0.7], "dense": [0.9, 0.7, 0.7]}, "nDCG@10")
    x = numbers(svg, r'<circle cx="([\d.]+)"')
    assert x[:3] == x[3:]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.11), "sizes stand on a logarithmic axis"
    names = numbers(svg, r'<text class="name" x="\d+" y="([\d.]+)"')
    assert abs(names[0] - names[1]) >= 14, "names at one place are moved apart"
    assert curve_svg([], {}, "x") == ""
    ET.fromstring(curve_svg([5], {"one": [0.5]}, "x"))


def test_a_reliability_diagram_shows_bins_that_hold_something():
    svg = reliability_svg([(0.1, 0.2, 100), (0.5, 0.5, 0), (0.9, 0.9, 25)])
    ET.fromstring(svg)
    assert svg.count("<circle") == 2
    assert numbers(svg, r' r="([\d.]+)"') == [10.0, 6.5]
    (x1, y1), (x2, y2) = ((float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg))
    assert (x1 - 56) / 280 == pytest.approx(0.1, abs=0.001)
    assert (286 - y1) / 274 == pytest.approx(0.2, abs=0.001)
    assert ((x2 - 56) / 280, (286 - y2) / 274) == pytest.approx((0.9, 0.9), abs=0.001)
    assert reliability_svg([]) == reliability_svg([(0.5, 0.5, 0)]) == ""
