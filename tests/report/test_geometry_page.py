"""The page of the geometry of a change: its text, its pictures with their data, and its look in a real browser."""

from __future__ import annotations

import dataclasses
import html
import re
from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapterlab.errors import AdapterlabError
from adapterlab.report.geometry import DARK_COLOURS, figures, save_plot, section, write_html
from adapterlab.report.geometry_charts import LABEL, labels_apart, looks, residuals, to_svg
from adapterlab.report.geometry_layer_charts import CHANCE_COLOURS, heat_map
from adapterlab.report.geometry_words import answer, paragraphs
from tests.report.browser import chromium
from tests.report.geometries import NAMES, change, layer, projections, scored


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("geometry") / "geometry.html"
    write_html(scored(), path)
    return path


@pytest.fixture(scope="module")
def text(page):
    return page.read_text().replace("\u00a0", " ")


def test_it_is_one_file_that_asks_nothing_of_the_network(text):
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", text) == []
    assert "@import" not in text
    assert not re.search(r"url\((?![\"']?#)", text)
    assert "default-src 'none'" in text


def test_all_sentences_come_before_the_first_picture(text):
    result = scored()
    before = html.unescape(text[: text.index("<svg")])
    assert answer(result) in before
    for paragraph in paragraphs(result):
        assert paragraph.title in before
        assert paragraph.text in before


def test_headings_go_down_one_level_at_a_time(text):
    levels = [int(level) for level in re.findall(r"<h(\d)[ >]", text)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_every_picture_is_followed_by_its_data(text):
    pictures = text.split('<div class="figure"')[1:]
    assert len(pictures) == 5
    for picture in pictures:
        after = picture[picture.index("</svg>") :]
        assert after.index("<details") < after.index("<h2") if "<h2" in after else "<details" in after


def test_every_projection_is_in_a_table(text):
    table = text[text.index("<summary>Every projection") :]
    table = table[: table.index("</table>")]
    assert table.count("<tr>") == 1 + len(scored().projections)
    assert '<td>Low rank</td><td class="n">2</td><td class="n">3,600</td><td class="n">54 %</td>' in table


def test_a_change_without_scores_has_no_picture_of_them():
    assert [figure.id for figure in figures(change())] == ["measures", "energies", "spectra", "residuals"]


def test_a_result_without_layers_is_a_page_that_says_so(tmp_path):
    write_html(change(layers=(), projections=(), budgets=()), tmp_path / "g.html")
    assert "No linear layer changed." in (tmp_path / "g.html").read_text()


def test_names_are_shown_as_text(tmp_path):
    few = change(layers=(layer("up", 0),), projections=(), budgets=())
    named = dataclasses.replace(few, tuned="<script>alert(1)</script>", base="a\x1b[31m")
    write_html(named, tmp_path / "g.html")
    written = (tmp_path / "g.html").read_text()
    assert "<script" not in written
    assert "\x1b" not in written


def test_a_section_begins_at_the_level_that_is_asked_for():
    found = section(change(layers=(layer("up", 0),), projections=()), level=3)
    assert set(re.findall(r"<h(\d)", found)) == {"3", "4"}
    assert ">What the change looks like</h3>" in found


def test_every_hypothesis_has_its_own_colour_and_shape():
    many = projections({f"h{i}": (0.1,) for i in range(70)})
    look = looks(change(projections=many))
    assert len(set(look.values())) == 70


def test_colours_of_charts_have_one_for_the_dark_theme():
    drawn = to_svg(heat_map(change())) + to_svg(residuals(change()))
    used = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{3,6})"', drawn)) - {"#000", "#e6e9ed"}
    assert used
    assert used <= set(DARK_COLOURS)


def test_the_heat_map_has_the_colour_of_each_distance_from_chance():
    """Far above, far below, and within chance."""
    layers = (layer("up", 0, top=0.9), layer("up", 1, top=0.01), layer("up", 2, top=-0.9))
    only = tuple(
        dataclasses.replace(
            each,
            measures={"energy_in_top(0.1)": each.measures["energy_in_top(0.1)"]},
            nulls={"energy_in_top(0.1)": each.nulls["energy_in_top(0.1)"]},
        )
        for each in layers
    )
    cells = re.findall(r'aria-roledescription="rect mark"[^>]*fill="(#\w+)"', to_svg(heat_map(change(layers=only))))
    assert cells == [CHANCE_COLOURS[-1], CHANCE_COLOURS[3], CHANCE_COLOURS[0]]


@given(st.lists(st.floats(0, 400), max_size=20))
def test_labels_keep_their_distance_and_their_order(wanted):
    placed = labels_apart(wanted, LABEL, 8, 392)
    assert all(abs(a - b) >= LABEL - 1e-6 for a, b in combinations(placed, 2))
    assert all(8 - 1e-6 <= place <= 392 + 1e-6 for place in placed)
    ordered = sorted(range(len(wanted)), key=lambda i: wanted[i])
    assert [placed[i] for i in ordered] == sorted(placed)


def test_labels_that_are_apart_stay_where_they_are():
    assert labels_apart([100.0, 10.0, 300.0], 17, 0, 400) == [100.0, 10.0, 300.0]


def test_pictures_are_written_as_png_and_svg(tmp_path):
    result = change(projections=projections({"low_rank": (0.2, 0.5)}), layers=(layer("up", 0), layer("query", 1)))
    save_plot(result, tmp_path / "g.png")
    save_plot(result, tmp_path / "g.SVG")
    assert (tmp_path / "g.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    drawn = (tmp_path / "g.SVG").read_text()
    assert all(figure.title in drawn for figure in figures(result))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.SVG", "g.png"]


@pytest.mark.parametrize(
    ("name", "result", "message"),
    [
        ("g.pdf", change(), "give a file that ends in .png or .svg"),
        ("g.png", change(layers=(), projections=()), "has nothing to draw"),
    ],
)
def test_a_picture_that_cannot_be_written_is_one_error_and_no_file(name, result, message, tmp_path):
    with pytest.raises(AdapterlabError, match=message):
        save_plot(result, tmp_path / name)
    assert not list(tmp_path.iterdir())


OVERLAP = """
const texts = [...document.querySelectorAll("#geometry-residuals ~ .figure svg text")];
return texts.filter(t => arguments[0].includes(t.textContent.replace(" (at most)", ""))).map(t => {
  const box = t.getBoundingClientRect(); return [t.textContent, box.left, box.top, box.right, box.bottom]; });
"""


@pytest.mark.browser
def test_a_browser_draws_it_at_every_width_in_light_and_dark_and_by_keyboard(page, tmp_path):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    with chromium(tmp_path) as browser:
        browser.get(page.as_uri())
        for width in (380, 1000, 1600):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
            labels = browser.execute_script(OVERLAP, ["Low rank", *NAMES])
            assert len(labels) >= len(NAMES)
            own = [box for box in labels if box[1] == labels[0][1]][: len(NAMES)]
            assert len(own) == len(NAMES)
            assert all(
                below[2] >= above[4] - 0.5 or above[2] >= below[4] - 0.5 for (above, below) in combinations(own, 2)
            )
        grounds = set()
        for scheme in ("light", "dark"):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            ground, ink = browser.execute_script(
                "const s = getComputedStyle(document.body), t = document.querySelector('.figure svg text');"
                "return [s.backgroundColor, getComputedStyle(t).fill]"
            )
            assert ground != ink
            grounds.add(ground)
        assert len(grounds) == 2
        seen = []
        for _ in range(40):
            browser.switch_to.active_element.send_keys(Keys.TAB)
            focused = browser.switch_to.active_element
            seen.append(focused.tag_name)
            if focused.tag_name == "summary":
                focused.send_keys(Keys.ENTER)
                break
        assert seen[0] == "div"  # the first picture, which scrolls by keyboard
        assert seen[-1] == "summary"
        assert browser.find_element(By.CSS_SELECTOR, "details").get_attribute("open") is not None
        assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
        assert browser.get_log("browser") == []
