"""The HTML page of a map: contents, links, and its appearance in a browser."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
from hypothesis import assume, given, settings

from adapterlab import argmap
from adapterlab.argmap.tools.page import to_html
from adapterlab.errors import AdapterlabError
from tests.argmap import strategies
from tests.argmap.reference import corpus

MAP = """
===
title: Trams & <bridges>
author: A. Writer
===

[T]: The bridge holds, see @<A> and @[Nowhere]. {prior: 0.4}
  + It has held so far. {credence: 0.7}

# Evidence #checked

<A>: The load test. #old

(1) [P]: It sagged by 4 mm. #observation #(two words)
    [survey](survey.md#L3) [paper](https://example.org/p) [bad](javascript:alert(1))
    > It sagged
    {reason: "two instruments", credence: 0.8}
(2) [Q]: The trams are lighter. {credence: 0.9}
-- by analogy {reason: "a similar bridge"} --
(3) [C]: The load is fine. {reason: "static load only", inference: 0.5, test: {on: [rig]}}
----
(4) [D]: It carries trams. {inference: 0.6}
  +> [T]

<B>: Rust. {credence: 0.2}
  _> <A>
"""


class Page(HTMLParser):
    """The elements of a page: ids, addresses, and the text of each article."""

    VOID = ("meta", "br", "link", "img", "input")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.articles: dict[str, str] = {}
        self.open: list[str] = []
        self.article = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids.extend(value for key, value in attrs if key == "id" and value)
        self.addresses.extend(value for key, value in attrs if key in ("href", "src", "xlink:href") and value)
        if tag == "article":
            self.article = found["id"] or ""
            self.articles[self.article] = ""
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self.article = "" if tag == "article" else self.article

    def handle_data(self, data: str) -> None:
        if self.article:
            self.articles[self.article] = " ".join(f"{self.articles[self.article]} {data}".split())


def page_of(text: str) -> Page:
    read = argmap.parse(text)
    page = Page(to_html(read, argmap.score(read)))
    assert not page.open
    return page


def in_order(text: str, *words: str) -> bool:
    at = -1
    return all((at := text.find(word, at + 1)) >= 0 for word in words)


def test_an_argument_shows_its_premises_inferences_and_conclusions_in_order() -> None:
    card = page_of(MAP).articles["argument-A"]
    assert in_order(card, "<A>", "The load test.", "#old")
    assert in_order(card, "(1) [P] It sagged by 4 mm.", "0.80", "(2) [Q] The trams are lighter.", "0.90")
    assert in_order(card, "by analogy", "reason: ", "static load only", "0.50", "(3) [C] The load is fine.", "0.36")
    assert in_order(card, "(3)", "inference", "0.60", "(4) [D] It carries trams.", "undercut by", "<B>")


def test_a_claim_shows_text_numbers_quotes_sources_tags_and_relations() -> None:
    page = page_of(MAP)
    card = page.articles["claim-P"]
    for shown in (
        "It sagged by 4 mm.",
        "credence 0.8 stated",
        "It sagged",
        "#two words",
        "two instruments",
        "premise of",
    ):
        assert shown in card
    assert {"https://example.org/p", "survey.md#L3"} <= set(page.addresses)
    assert not any("javascript" in address for address in page.addresses)
    assert "bad (javascript:alert(1)" in card
    assert in_order(page.articles["claim-T"], "thesis", "prior 0.4 stated", "supported by", "[D]")
    # What is said about an inference stands in the argument, not with the claim that it concludes.
    assert "static load only" not in page.articles["claim-C"]
    assert page.articles["claim-Untitled-1"].startswith("claim 0.700 It has held so far.")


def test_relative_links_lead_from_the_page_to_the_maps_folder() -> None:
    read = argmap.parse(MAP)
    addresses = Page(to_html(read, argmap.score(read), folder="../maps")).addresses
    assert "../maps/survey.md#L3" in addresses
    assert "https://example.org/p" in addresses


def test_titles_that_differ_only_in_white_space_and_non_ascii_titles_have_their_own_ids() -> None:
    page = page_of("[A B]: x {credence: 0.5}\n  +> [A-B]: y\n\n[Größe 100%]: z {credence: 0.5}\n  -> [A B]\n")
    assert set(page.articles) == {"claim-A-B", "claim-A-B-2", "claim-Größe-100%"}
    assert set(page.addresses) == {"#claim-A-B", "#claim-A-B-2", "#claim-Gr%C3%B6%C3%9Fe-100%25"}


@settings(max_examples=60, deadline=None)
@given(strategies.argument_map())
def test_every_claim_and_argument_has_a_card_and_every_link_a_target(text: str) -> None:
    read = argmap.parse(text)
    assume(not any(d.severity == "error" for d in read.diagnostics))
    try:
        page = page_of(text)
    except AdapterlabError:
        assume(False)
    assert len(page.articles) == len(read.claims) + len(read.arguments)
    assert len(page.ids) == len(set(page.ids))
    inside = {unquote(address[1:]) for address in page.addresses if address.startswith("#")}
    assert inside <= set(page.ids)
    assert not any(identifier.split() != [identifier] for identifier in page.ids)


def test_the_built_in_map_has_all_its_arguments() -> None:
    text = corpus.read(corpus.BUILT_IN)
    read, page = argmap.parse(text), page_of(text)
    for argument in read.arguments.values():
        card = page.articles[f"argument-{'-'.join(argument.title.split())}"]
        assert in_order(card, *(f"[{title}]" for _, title in argument.numbered))


LONG = "Donaudampfschifffahrtsgesellschaftskapitänsmützenabzeichen" * 4
WIDE = "WWWWWW MMMMMMMM 橋梁は新しい路面電車を支える橋梁は新しい路面電車を支える THE BRIDGE WILL HOLD " * 3
UNTIDY = f"""
===
title: {LONG}
===

[{LONG}]: {LONG}
  + <{LONG} and more words, so that the title is long in both senses>: {LONG} #{LONG} {{credence: 0.5}}
  + [{WIDE}]: {WIDE} {{credence: 0.5}}
    + [{WIDE}, yes]

(1) {WIDE}
----
(2) [{WIDE}, yes]: {WIDE}
"""


@pytest.mark.browser
def test_the_page_fits_every_width_in_both_themes_and_makes_no_request(tmp_path) -> None:
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("needs Debian's chromium and chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.common.by import By

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("headless=new", "no-sandbox", "disable-background-networking", "disable-component-update"):
        options.add_argument(f"--{flag}")
    for flag in ("disable-sync", "disable-gpu", "no-first-run", f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as driver:
        for name, text in (("built-in", corpus.read(corpus.BUILT_IN)), ("untidy", UNTIDY), ("small", MAP)):
            read, path = argmap.parse(text), tmp_path / f"{name}.html"
            path.write_text(to_html(read, argmap.score(read)), encoding="utf-8")
            for theme, width in (("light", 380), ("dark", 900), ("dark", 1600)):
                media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
                size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
                driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                driver.get(path.as_uri())
                assert driver.execute_script("return document.documentElement.scrollWidth") <= width
                assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0
                # No label of the drawing leaves its box, or reaches the number beside it.
                overlapping = driver.execute_script(OVERLAPPING)
                assert overlapping == [], (name, theme, width, overlapping[:3])
                colour = driver.find_element(By.TAG_NAME, "body").value_of_css_property("background-color")
                assert ("255, 255, 255" in colour) == (theme == "light")


OVERLAPPING = """
const found = [];
for (const group of document.querySelectorAll('.argmap g')) {
  const box = group.querySelector('.box').getBBox(), value = group.querySelector('.value')?.getBBox();
  for (const text of group.querySelectorAll('text:not(.value)')) {
    const label = text.getBBox();
    const beside = value && label.y < value.y + value.height && label.x + label.width > value.x;
    if (label.x + label.width > box.x + box.width || label.y + label.height > box.y + box.height || beside)
      found.push(text.textContent);
  }
}
return found;
"""
