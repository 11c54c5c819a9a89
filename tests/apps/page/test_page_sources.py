"""What must hold of the page's files themselves; needs no browser."""

from __future__ import annotations

import re

from .standin import STATIC


def test_no_source_writes_markup_or_names_another_host():
    sources = {file.name: file.read_text(encoding="utf-8") for file in STATIC.iterdir() if file.suffix != ".png"}
    assert {"index.html", "app.js", "style.css"} <= set(sources)
    for name, source in sources.items():
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", source), (
            name
        )
        assert re.findall(r"https?://(?!www\.w3\.org/)[^\s\"']+", source) == [], name
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*\bsrc=)", sources["index.html"])


def test_every_file_that_is_named_is_there():
    named = set()
    for file in STATIC.iterdir():
        source = file.read_text(encoding="utf-8")
        named |= set(re.findall(r"""(?:src|href)="([\w.]+)"|from "\./([\w.]+)"|url\("([\w.]+)"\)""", source))
    wanted = {name for names in named for name in names if name}
    assert {"app.js", "style.css", "icon.svg", "view.js", "text.js"} <= wanted
    assert {name for name in wanted if not (STATIC / name).is_file()} == set()
