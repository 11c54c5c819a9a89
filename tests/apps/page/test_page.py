"""What a person sees and does: results, keys, weights, filters, links, errors."""

from __future__ import annotations

import pytest

from .conftest import HOSTILE, ask, fetch, ids, until
from .standin import serving

pytestmark = pytest.mark.browser


def strip(page, selector):
    return [text.strip() for text in page.locator(selector).all_inner_texts()]


def drag(page, strand, value):
    page.eval_on_selector(
        f"#weight-{strand}", f"one => {{ one.value = '{value}'; one.dispatchEvent(new Event('input')); }}"
    )


# Results


def test_hits_are_those_of_the_retriever_in_its_order_with_its_scores(open_page, server, retriever):
    page = open_page()
    ask(page, "history of the city")
    expected = retriever.search("history of the city", k=10)
    assert ids(page) == [hit.id for hit in expected]
    assert strip(page, ".score") == [f"{hit.score:.3f}" for hit in expected]
    assert page.inner_text("#status").startswith("The best 10 · ")
    fetch(page, lambda: page.click("#more"))
    until(page, "document.querySelectorAll('#hits > li').length === 20")
    assert ids(page) == [hit.id for hit in retriever.search("history of the city", k=20)]
    assert [wish["k"] for wish in server.asked] == [11, 100]
    assert page.evaluate("document.activeElement.querySelector('.rank').textContent") == "11"


def test_a_bar_shows_each_strands_share_of_the_fused_score(open_page, retriever):
    page = open_page()
    ask(page, "honey bees")
    hit = retriever.search("honey bees", k=1)[0]
    parts = {name: view.weight * view.normalised for name, view in hit.strands.items()}
    shares = [f"{name} {round(100 * part / sum(parts.values()))} %" for name, part in parts.items()]
    assert page.get_attribute(".bar", "aria-label") == "Share of the score: " + ", ".join(shares)
    widths = page.eval_on_selector_all(
        "#hits > li:first-child .bar span", "all => all.map(one => one.getBoundingClientRect().width)"
    )
    assert widths[0] / sum(widths) == pytest.approx(parts["lexical"] / sum(parts.values()), abs=0.01)


def test_words_are_marked_by_the_strands_that_matched_them(open_page):
    page = open_page()
    ask(page, "cities melting")
    marks = page.eval_on_selector_all(
        "[data-id=snow] mark", "all => all.map(one => [one.textContent, one.dataset.strands])"
    )
    assert ["melts", "lexical"] in marks
    assert any(word == "cities" and "lexical" in strands.split() for word, strands in marks)


def test_nothing_found_is_said(open_page):
    page = open_page("?q=honey&filter=year+%3D+1")
    until(page, "document.getElementById('status').textContent.startsWith('Nothing found. The filters')")
    assert ids(page) == []


# Explanations


def test_the_panel_tells_what_the_retriever_explains(open_page, retriever):
    page = open_page()
    ask(page, "honey in winter")
    hit = retriever.search("honey in winter", k=1, explain=True)[0]
    page.click("#hits > li:first-child .explain")
    rows = page.eval_on_selector_all(
        "#hits > li:first-child tbody tr",
        "all => all.map(row => [...row.cells].slice(0, 5).map(cell => cell.textContent))",
    )
    assert rows == [
        [name, f"{view.score:.3f}", f"{view.normalised:.3f}", f"#{view.rank}", f"{view.weight:.3f}"]
        for name, view in hit.strands.items()
    ]
    read = "one => ['by', 'word', 'figure'].map(name => one.querySelector('.' + name).textContent)"
    told = page.eval_on_selector_all(".found li", f"all => all.map({read})")
    assert sorted(map(tuple, told)) == sorted((m.strand, m.term, f"{m.contribution:.2f}") for m in hit.matches)
    assert page.get_attribute(".explain", "aria-expanded") == "true"


def test_the_answer_tells_its_steps_and_where_the_time_went(open_page):
    page = open_page()
    ask(page, "honey")
    told = page.inner_text("#answer-facts")
    assert all(part in told for part in ("convex", "feedback", "encode", "propose", "fuse", "steps", "in the server"))


# Weights


def test_a_slider_orders_the_hits_at_hand_as_the_server_orders_them_without_steps(open_page, server, retriever):
    page = open_page()
    ask(page, "honey in winter cities")
    fetch(page, lambda: drag(page, "dense", 0))
    drag(page, "lexical", 1)
    until(page, "location.search.includes('lexical%3A1%2C')")
    assert page.inner_text("#status").endswith(" · ordered anew in the page")
    assert [(wish["k"], "weights" in wish) for wish in server.asked] == [(11, False), (100, False)]
    weights = {"lexical": 1.0, "learned": 0.07, "dense": 0.0}
    # Feedback moves the dense query alone; and the page asks every strand, whatever it weighs.
    alike = retriever.search("honey in winter cities", k=10, weights=weights, strands=retriever.strands)
    assert ids(page) == [hit.id for hit in alike]
    assert strip(page, ".score") == [f"{hit.score:.3f}" for hit in alike]
    assert page.evaluate("new URLSearchParams(location.search).get('w')") == "lexical:1,learned:0.07,dense:0"
    fetch(page, lambda: page.click("#again"))
    assert server.asked[-1]["weights"] == weights
    fetch(page, lambda: page.click("#reset"))
    assert "weights" not in server.asked[-1]
    assert "w=" not in page.url


def test_all_weights_at_zero_are_refused(open_page):
    page = open_page()
    ask(page, "honey")
    before = ids(page)
    for name in ("lexical", "learned", "dense"):
        drag(page, name, 0)
    assert page.inner_text("#status") == "At least one strand needs a weight above 0."
    assert ids(page) == before


def test_where_the_page_cannot_work_out_scores_a_slider_asks_the_server(open_page, server, retriever, monkeypatch):
    plain = server.search
    monkeypatch.setattr(server, "search", lambda wish: plain({**wish, "fusion": "rrf"}))
    page = open_page()
    ask(page, "honey in winter")
    fetch(page, lambda: drag(page, "lexical", 0.2))
    assert len(server.asked) == 2
    expected = retriever.search("honey in winter", k=10, fusion="rrf", weights=server.asked[1]["weights"])
    assert ids(page) == [hit.id for hit in expected]


# Filters


@pytest.mark.parametrize(
    ("field", "operator", "values", "expression"),
    [
        ("year", "is at least", ["2020"], "year >= 2020"),
        ("year", "is between", ["2019", "2020"], "year BETWEEN 2019 AND 2020"),
        ("lang", "is", ["it's"], "lang = 'it''s'"),
        ("title", "contains", ["100%_"], r"title ILIKE '%100\%\_%' ESCAPE '\'"),
        ("tags", "has any of", ["food, trade"], "tags CONTAINS ANY ('food', 'trade')"),
        ("seen", "is from", ["2021-01-02"], "seen >= '2021-01-02'"),
        ("peer", "is true", [], "peer = TRUE"),
        ("lang", "is missing", [], "lang IS NULL"),
    ],
)
def test_the_builder_writes_what_the_filter_language_reads(
    open_page, server, retriever, field, operator, values, expression
):
    page = open_page()
    ask(page, "honey winter city")
    page.select_option("#field", field)
    page.select_option("#operator", operator)
    for box, value in zip(page.locator("#values input").all(), values, strict=True):
        box.fill(value)
    fetch(page, lambda: page.click("#builder button"))
    assert server.asked[-1]["filter"] == expression
    assert ids(page) == [hit.id for hit in retriever.search("honey winter city", k=10, filter=expression)]
    fetch(page, lambda: page.click("#filters button"))
    assert "filter" not in server.asked[-1]


def test_filters_add_up_and_a_bad_one_is_told_and_can_go(open_page, server):
    page = open_page("?q=winter&filter=year+%3E%3D+2020&filter=lang+%3D+%27en%27+OR+peer")
    page.wait_for_selector("#hits article")
    assert server.asked[-1]["filter"] == "(year >= 2020) AND (lang = 'en' OR peer)"
    page.fill("#expression", "yeer > 2")
    fetch(page, lambda: page.press("#expression", "Enter"))
    page.wait_for_selector("#trouble:not([hidden])")
    assert "yeer" in page.inner_text("#trouble p")
    fetch(page, lambda: page.click("[aria-label='Remove the filter yeer > 2']"))
    assert page.locator("#trouble").is_hidden()
    assert ids(page) == ["bees"]


# Keys and links


def test_keys(open_page):
    page = open_page()
    ask(page, "winter")
    order = ids(page)
    focused = "document.activeElement.closest('li')?.dataset.id"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == order[1]
    page.keyboard.press("o")
    assert page.locator("#hits > li:nth-child(2) .panel").is_visible()
    page.keyboard.press("Escape")
    assert page.locator(".panel:visible").count() == 0
    page.keyboard.press("ArrowUp")
    assert page.evaluate(focused) == order[0]
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("o/o")
    assert page.input_value("#query") == "o/o"
    page.keyboard.press("Escape")
    assert page.input_value("#query") == ""
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.id") == "query"


def test_back_forward_and_links_bring_the_same_hits(open_page, server):
    page = open_page()
    ask(page, "honey")
    honey = ids(page)
    ask(page, "snow melts")
    snow = ids(page)
    fetch(page, page.go_back)
    assert (page.input_value("#query"), ids(page)) == ("honey", honey)
    fetch(page, page.go_forward)
    assert (page.input_value("#query"), ids(page)) == ("snow melts", snow)
    other = open_page("?q=honey&w=lexical:2,dense:0,nonsense:1")
    other.wait_for_selector("#hits article")
    assert server.asked[-1]["weights"] == {"lexical": 2, "dense": 0}
    assert other.input_value("#weight-lexical") == "2"


def test_an_old_answer_never_replaces_a_newer_one(open_page, server, monkeypatch):
    page = open_page()
    page.route("**/api/search", lambda route: None if "slow" in route.request.post_data else route.continue_())
    page.fill("#query", "slow honey")
    page.press("#query", "Enter")
    ask(page, "snow")
    assert ids(page)[0] == "snow"
    assert [wish["query"] for wish in server.asked] == ["snow"]


# Trouble


def test_hostile_documents_stay_text(open_page):
    page = open_page()
    ask(page, "img honey bees script")
    page.locator("[data-id='<b>evil</b>'] .explain").click()
    shown = page.inner_text("[data-id='<b>evil</b>']")
    assert HOSTILE in shown
    assert "<i>key</i>" in shown
    assert page.locator("#hits img, #hits script, #hits b, #hits i, #hits [href^=javascript]").count() == 0
    assert page.get_attribute("[data-id=bees] h2 a", "href") == "https://example.org/bees"
    assert page.evaluate("window.pwned") is None


def test_a_hostile_query_filter_and_address_stay_text(open_page):
    page = open_page(
        "?q=%3Cimg+src%3Dx+onerror%3Dwindow.pwned%3D1%3E+honey&filter=title+%3C%3E+%27%3Cb%3E%27&w=lexical:-1,dense:NaN"
    )
    page.wait_for_selector("#hits article")
    assert page.title() == "<img src=x onerror=window.pwned=1> honey – plait"
    assert strip(page, "#filters code") == ["title <> '<b>'"]
    assert page.evaluate("window.pwned") is None


@pytest.mark.parametrize(
    ("status", "told"),
    [(429, "The server is busy. Try again in a moment."), (504, "as the test wished"), (500, "as the test wished")],
)
def test_an_error_is_told_and_can_be_tried_again(open_page, server, status, told):
    server.fail = status
    page = open_page("?q=honey")
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.inner_text("#trouble p") == told
    server.fail = None
    fetch(page, lambda: page.click("#trouble button"))
    assert ids(page)[0] == "bees"


def test_hits_stay_when_more_of_them_cannot_be_had(open_page, server):
    page = open_page()
    ask(page, "history of the city")
    before, server.fail = ids(page), 429
    fetch(page, lambda: page.click("#more"))
    until(page, "document.getElementById('status').textContent === 'The server is busy. Try again in a moment.'")
    assert ids(page) == before
    server.fail = None
    fetch(page, lambda: page.click("#more"))
    until(page, "document.querySelectorAll('#hits > li').length === 20")


def test_a_server_that_is_gone_is_told(open_page):
    page = open_page()
    page.route("**/api/search", lambda route: route.abort())
    page.fill("#query", "honey")
    page.press("#query", "Enter")
    page.wait_for_selector("#trouble:not([hidden])")
    assert page.inner_text("#trouble p") == "The server does not answer. Is it still running?"


def test_a_token_is_asked_for_once_and_kept_for_the_tab(open_page, retriever):
    with serving(retriever, token="open sesame") as server:
        page = open_page("?q=honey", url=server.url, ready=False)
        page.wait_for_selector("#token-dialog[open]")
        page.fill("#token", "wrong")
        page.press("#token", "Enter")
        until(page, "document.getElementById('token-said').textContent === 'That token was not accepted.'")
        page.fill("#token", "open sesame")
        page.press("#token", "Enter")
        page.wait_for_selector("#hits article")
        page.reload()
        page.wait_for_selector("#hits article")
        assert page.evaluate("[sessionStorage.length, Object.keys(localStorage)]") == [1, ["plait-theme"]]


def test_a_token_that_no_header_can_hold_is_asked_for_again(open_page, retriever):
    with serving(retriever, token="open sesame") as server:
        page = open_page("?q=honey", url=server.url, ready=False)
        page.wait_for_selector("#token-dialog[open]")
        page.fill("#token", "сезам")
        page.press("#token", "Enter")
        assert page.inner_text("#token-said") == "A token has letters, digits and signs of ASCII alone."
        page.fill("#token", "open sesame")
        page.press("#token", "Enter")
        page.wait_for_selector("#hits article")


def test_a_token_that_is_not_given_is_told(open_page, retriever):
    with serving(retriever, token="open sesame") as server:
        page = open_page(url=server.url, ready=False)
        page.wait_for_selector("#token-dialog[open]")
        page.keyboard.press("Escape")
        page.wait_for_selector("#trouble:not([hidden])")
        assert page.inner_text("#trouble p") == "The server wants a token."
