"""The documentation site: it builds without a warning, its links hold, and a browser that opens it asks no other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urldefrag

import pytest

import adapterlab
from adapterlab import argmap, evidence, geometry
from tests.pages.blocks import DOCS
from tests.report.browser import chromium, look
from tests.report.page_data import trials_of

ROOT = DOCS.parent
ASKED = "return performance.getEntriesByType('resource').map(entry => entry.name)"
"""Script that returns the addresses that a page has asked for."""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(place)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return place


class Targets(HTMLParser):
    """Files that a page loads, its links, and its own anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        by_name = dict(attributes)
        self.anchors |= {by_name[key] or "" for key in ("id", "name") if key in by_name}
        if tag in ("script", "img", "iframe", "source"):
            self.loaded += [by_name["src"] or ""] if "src" in by_name else []
        elif tag == "link" and by_name.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(by_name.get("href") or "")
        elif tag == "a":
            self.linked.append(by_name.get("href") or "")


def targets_of(page: Path) -> Targets:
    targets, text = Targets(), page.read_text()
    targets.feed(text)
    targets.anchors |= {f"t-{trial}" for trial in trials_of(text)}
    return targets


def test_no_page_loads_anything_from_elsewhere(site):
    for page in site.rglob("*.html"):
        assert not [name for name in targets_of(page).loaded if re.match(r"(?:https?:)?//", name)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", style.read_text()), style


def test_every_link_of_a_page_leads_to_a_file_and_a_place_in_it(site):
    """Of the results, whose trials' rows are linked to as well."""
    seen: dict[Path, Targets] = {}
    for page in site.rglob("*.html"):
        if page.name in ("404.html", "report.html") or (page.parent.name == "geometry-1" and page.stem != "index"):
            continue
        for link in targets_of(page).linked:
            target, anchor = urldefrag(link)
            if re.match(r"[a-z]+:", link) or not link:
                continue
            file = (page.parent / unquote(target)).resolve() if target else page
            assert file.exists(), (page, link)
            if anchor and file.suffix == ".html":
                if file not in seen:
                    seen[file] = targets_of(file)
                assert unquote(anchor) in seen[file].anchors, (page, link)


def test_the_published_results_are_in_it_whole(site):
    for path in (ROOT / "results").rglob("*"):
        if path.is_file() and path.suffix != ".md":
            assert (site / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
        elif path.is_file():
            assert (site / path.relative_to(ROOT)).parent.joinpath("index.html").is_file()


def test_no_path_of_the_machine_is_in_the_pages(site):
    for page in site.rglob("*.html"):
        assert str(ROOT) not in page.read_text(), page


def test_the_reference_has_every_public_name(site):
    anchors = targets_of(site / "api.html").anchors
    for module in (adapterlab, argmap, evidence, geometry):
        missing = [name for name in module.__all__ if not any(at.endswith(f".{name}") for at in anchors)]
        assert not missing, (module, missing)


def test_examples_of_docstrings_are_code_in_the_reference(site):
    page = (site / "api.html").read_text()
    assert "&gt;&gt;&gt;" in page
    assert not re.search(r"<blockquote>\s*<blockquote>", page)


@pytest.fixture(scope="module")
def address(site) -> Iterator[str]:
    """Address of the site on a server of this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.browser
def test_a_browser_asks_no_other_host_and_finds_no_error(address, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    asked: set[str] = set()
    fits = "return document.documentElement.scrollWidth <= window.innerWidth"
    with chromium(tmp_path) as browser:
        look(browser, 1280)
        for name in ("which-adapter", "rates-and-ranks", "api", "examples/3-argument-map", "index"):
            browser.get(f"{address}{name}.html")
            for width in (380, 1280):
                look(browser, width)  # the theme's script makes wide tables scroll once it has run
                WebDriverWait(browser, 20).until(lambda at: at.execute_script(fits), f"{name} at {width} pixels")
            asked |= set(browser.execute_script(ASKED))
        browser.find_element(By.CSS_SELECTOR, ".md-search__input").send_keys("equal learning")
        WebDriverWait(browser, 60).until(lambda at: at.find_elements(By.CSS_SELECTOR, ".md-search-result__link"))
        asked |= set(browser.execute_script(ASKED))
        assert len(asked) > 3
        assert all(url.startswith((address, "blob:", "data:")) for url in asked), asked
        grounds = set()
        for scheme in ("light", "dark"):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            browser.execute_script("localStorage.clear()")
            browser.get(f"{address}which-adapter.html")
            ground = (
                "return getComputedStyle(document.body).backgroundColor"  # the theme's script sets it once it has run
            )
            WebDriverWait(browser, 20).until(lambda at, of=ground: at.execute_script(of) not in grounds, scheme)
            grounds.add(browser.execute_script(ground))
        assert browser.get_log("browser") == []
