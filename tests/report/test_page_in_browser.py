"""The report in a real browser: its interactions, its look, its accessibility, and its arithmetic beside Python's."""

from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
import subprocess
import time

import pytest

from adapterlab import argmap
from adapterlab.lab.analysis.effects import Effects
from adapterlab.report.page import write_report
from adapterlab.resources import shipped
from adapterlab.verdict.judge_map import judge
from tests.lab.made_up import analysed, played
from tests.report.browser import FRONTEND, chromium, look

pytestmark = pytest.mark.browser
NAMES = ("lora", "oft", "ia3", "pissa", "dora", "vera", "hra", "miss", "full_ft")
GAINS = dict(zip(NAMES, (0.2, 0.22, 0.1, 0.21, 0.2, 0.15, 0.19, 0.21, 0.25), strict=True))


@pytest.fixture(scope="module")
def results():
    return played(
        NAMES,
        gains=GAINS,
        forgetting={name: gain / 3 for name, gain in GAINS.items()},
        parameters={name: 9_000 + 10_000 * i for i, name in enumerate(NAMES)},
        best=dict.fromkeys(NAMES, 1.5),
        noise=0.004,
        title="Nine adapters on made-up tasks",
    )


@pytest.fixture(scope="module")
def built_in_map():
    return argmap.load(shipped("maps", "natural_manifold.argdown"))


@pytest.fixture(scope="module")
def analysis(results, built_in_map):
    return analysed(results, built_in_map)


@pytest.fixture(scope="module")
def page(analysis, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(analysis, path)
    return path


@pytest.fixture(scope="module")
def chrome(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        browser.execute_cdp_cmd(
            "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
        )
        yield browser


@pytest.fixture
def browser(chrome, page):
    look(chrome, 1280)
    chrome.get("about:blank")
    chrome.get(page.as_uri())
    yield chrome
    problems = [entry for entry in chrome.get_log("browser") if "chrome-extension" not in entry["message"]]
    assert problems == []


def find(browser, selector):
    return browser.find_element("css selector", selector)


def every(browser, selector):
    return browser.find_elements("css selector", selector)


def settle(browser):
    """Wait until two frames were drawn: what follows an event in the next frame has happened then."""
    frames = "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50)))"
    browser.execute_async_script(f"const done = arguments[0]; {frames}")


def soon(read, seconds=20):
    """The first true value that `read` returns within some time, on a machine that may be busy."""
    end = time.monotonic() + seconds
    while not (found := read()) and time.monotonic() < end:
        time.sleep(0.1)
    return found


def go(browser, fragment):
    browser.execute_script("location.hash = arguments[0]", fragment)
    settle(browser)


def column(browser, number, grid="#board-grid"):
    inside = " a" if number == 0 else ""
    return [
        cell.text.split("\n")[0]
        for cell in every(browser, f'{grid} .tabulator-cell[tabulator-field="c{number}"]{inside}')
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1000, 1600])
def test_it_fits_every_width_in_both_themes_without_a_request(browser, page, width, theme):
    look(browser, width, theme)
    browser.get("about:blank")
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert find(browser, ".answer").is_displayed()
    for place in (
        "#board-grid .tabulator-row",
        "#forest svg",
        "#tradeoff svg",
        "#curves svg",
        "#rate-curves svg",
        "svg.tree .node",
    ):
        assert every(browser, place), place
    ground, ink = browser.execute_script(
        "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"
    )
    light = sum(map(int, ground.strip("rgba()").split(",")[:3])) > sum(map(int, ink.strip("rgba()").split(",")[:3]))
    assert light == (theme == "light")


OVERLAPS = """
const boxes = arguments[0].map(selector => [...document.querySelectorAll(selector)]).flat()
  .filter(text => text.checkVisibility() && text.style.display !== "none")
  .map(text => [text.textContent, text.getBoundingClientRect()]).filter(([, box]) => box.width > 0);
const found = [];
for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
  const [a, b] = [boxes[i][1], boxes[j][1]];
  // A pixel of two boxes' leading is no overlap of letters.
  const meet = a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  if (meet) found.push([boxes[i][0], boxes[j][0]]);
}
return [boxes.length, found];
"""


@pytest.mark.parametrize("width", [380, 1280])
def test_no_labels_overlap_in_the_trade_off_and_the_whole_map(browser, page, width):
    look(browser, width)
    browser.get("about:blank")
    browser.get(page.as_uri())
    settle(browser)
    for against in ("forgotten", "trained parameters", "training time, seconds"):
        pick(browser, "#tradeoff", against)
        drawn, overlapping = browser.execute_script(OVERLAPS, ['#tradeoff [data-mark="text"] text'])
        assert drawn >= (4 if width == 380 else 7)
        assert overlapping == []
    for button in ("What moved", "Sections", "Everything"):
        press(browser, "#argument-map button", button)
        drawn, overlapping = browser.execute_script(OVERLAPS, ["svg.tree .node > text"])
        assert overlapping == []
    assert drawn > 150  # titles and numbers of all claims and arguments


def pick(browser, place, text):
    """Choose an option of a select element, which may redraw the element itself."""
    (option,) = [each for each in every(browser, f"{place} select option") if each.text == text]
    option.click()
    settle(browser)


def press(browser, selector, text):
    (button,) = [each for each in every(browser, selector) if each.text == text]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()


def test_the_scoreboard_sorts_by_number_and_filters(browser):
    gains = {name: GAINS[name] for name in column(browser, 0)}
    assert len(gains) == 9
    header = find(browser, '#board-grid .tabulator-col[tabulator-field="c3"]')
    header.click()
    shown = [float(text.replace("\u2212", "-")) for text in column(browser, 3)]
    assert shown == sorted(shown, reverse=True)
    header.click()
    shown = [float(text.replace("\u2212", "-")) for text in column(browser, 3)]
    assert shown == sorted(shown)
    find(browser, '#board-grid input[type="search"]').send_keys("ora")
    assert sorted(column(browser, 0)) == ["dora", "lora"]
    pick(browser, "#board-grid", "orthogonal")
    assert column(browser, 0) == []
    find(browser, '#board-grid input[type="search"]').send_keys("\b\b\b")
    assert sorted(column(browser, 0)) == ["hra", "oft"]


def test_a_task_has_its_own_results(browser, analysis):
    pick(browser, "#board-grid", "prose")
    shown = dict(zip(column(browser, 0), column(browser, 3), strict=True))
    expected = {each.contestant: each.gain.mean for each in analysis.main.by_task if each.task == "prose"}
    assert {name: float(text) for name, text in shown.items()} == pytest.approx(expected, abs=6e-4)


def test_the_front_is_that_of_the_points(browser):
    rows = browser.execute_script("document.querySelector('#tradeoff details.data').open = true") or []
    settle(browser)
    rows = [
        [cell.text for cell in row.find_elements("css selector", "td")] for row in every(browser, "#tradeoff tbody tr")
    ]
    points = {row[0]: (float(row[2]), float(row[5])) for row in rows if row[0] != "full_ft"}  # it is not ranked
    best = {
        name
        for name, (gain, forgot) in points.items()
        if not any(g >= gain and f <= forgot and (g, f) != (gain, forgot) for g, f in points.values())
    }
    assert {row[0] for row in rows if row[1] == "yes"} == best
    assert len(best) > 2


def test_the_slider_scores_the_map_as_python_does(browser, results, built_in_map):
    data = "JSON.parse(document.getElementById('report-data').textContent)"
    grid = browser.execute_script(f"return {data}.map.relevance.grid")
    thesis = built_in_map.theses[0]
    before = find(browser, ".thesis-now").text
    shown = set()
    for at in (0.0, 0.5, 1.0):
        place = next(i for i, value in enumerate(grid) if value == at)
        browser.execute_script(
            "const s = document.getElementById('relevance'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))",
            place,
        )
        expected = judge(built_in_map, Effects.of(results), at).after["bayes"]
        assert find(browser, ".thesis-now").text == f"{expected.claims[thesis].credence:.3f}"
        shown.add(find(browser, ".thesis-now").text)
        table = browser.execute_script(
            f"""const map = {data}.map, row = map.relevance.credences[arguments[0]];
            return Object.fromEntries(Object.keys(map.claims).map((title, i) => [title, row[i]]))""",
            place,
        )
        assert table == pytest.approx({title: score.credence for title, score in expected.claims.items()}, abs=1e-9)
    assert len(shown) > 1
    press(browser, "#relevance-control button", find(browser, "#relevance-control button").text)
    assert find(browser, ".thesis-now").text == before


def test_a_permalink_opens_a_claim_and_escape_closes_it(browser, analysis):
    go(browser, "claim-dora-beats-lora")
    panel = find(browser, "#panel")
    (verdict,) = [v for v in analysis.judgement.verdicts if v.claim == "DoRA Beats LoRA"]
    assert panel.text.split("\n")[2] == "DoRA Beats LoRA"
    assert verdict.parts[0].test.sentence() in panel.text
    assert f"{verdict.effect.mean:+.3f}" in panel.text
    assert "published comparisons" in panel.text
    assert "Direction Apart From Size" in panel.text
    assert browser.switch_to.active_element.text == "DoRA Beats LoRA"
    browser.switch_to.active_element.send_keys("\ue00c")
    assert not panel.is_displayed()
    assert browser.execute_script("return location.hash") == ""


@pytest.mark.parametrize("claim", ["Basis Carries Signal", "Split Is Real", "Natural Manifold"])
def test_a_claim_names_what_it_rests_on_and_what_it_bears_on(browser, built_in_map, claim):
    go(browser, f"claim-{claim.lower().replace(' ', '-')}")
    shown = {
        heading.text: {link.text for link in heading.find_elements("xpath", "following-sibling::ul[1]//a")}
        for heading in every(browser, "#panel h3")
    }
    steps = [step for argument in built_in_map.arguments.values() for step in argument.steps]
    below = {premise for step in steps if step.conclusion == claim for premise in step.premises}
    below |= {relation.source.title for relation in built_in_map.relations if relation.target.title == claim}
    above = {relation.target.title for relation in built_in_map.relations if relation.source.title == claim}
    above |= {step.conclusion for step in steps if claim in step.premises}
    assert shown["Rests on"] == {title for title in below if title in built_in_map.claims}
    assert shown.get("Bears on", set()) == above


def test_every_number_of_a_claim_leads_to_its_trials(browser, analysis):
    go(browser, "claim-dora-beats-lora")
    find(browser, "#panel details summary").click()
    link = find(browser, "#panel a.id")
    wanted = link.get_attribute("href").split("#t-")[1]
    (verdict,) = [v for v in analysis.judgement.verdicts if v.claim == "DoRA Beats LoRA"]
    assert wanted in verdict.pairs[0].trials
    link.click()
    (row,) = soon(lambda: every(browser, ".tabulator-row.found"))
    assert find(browser, "#trials").get_attribute("open") is not None
    assert row.text.startswith(wanted)
    assert find(browser, ".tabulator-row.found").is_displayed()


def test_every_method_has_a_page(browser):
    for name in NAMES:
        go(browser, f"method-{name}")
        text = find(browser, "#panel").text
        assert "Its bet:" in text
        assert "How to use it" in text
        assert f'"{name}"' in text
        assert "learned in-domain" in text
    go(browser, "board")
    assert not find(browser, "#panel").is_displayed()


def test_tables_copy_as_markdown_and_csv(browser):
    press(browser, "#board-grid .copy button", "CSV")
    soon(lambda: "copied" in find(browser, "#board-grid .copy").text)
    copied = browser.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    rows = list(csv.reader(io.StringIO(copied)))
    assert rows[0][:2] == ["contestant", "theme"]
    assert [row[0] for row in rows[1:]] == column(browser, 0)
    press(browser, "#board-grid .copy button", "Markdown")
    read = "navigator.clipboard.readText().then(arguments[0])"
    lines = soon(lambda: (text := browser.execute_async_script(read)).startswith("| ") and text.strip().split("\n"))
    assert len(lines) == 11
    assert set(lines[1]) == {"|", " ", "-"}


def test_the_map_is_walked_by_keys(browser):
    press(browser, "#argument-map button", "Sections")
    thesis = find(browser, ".node.thesis")
    browser.execute_script("arguments[0].focus()", thesis)
    walk = []
    for key in ("\ue014", "\ue014", "\ue015", "\ue012"):
        browser.switch_to.active_element.send_keys(key)
        walk.append(browser.execute_script("return document.activeElement.getAttribute('aria-label').split('.')[0]"))
    assert walk == [
        "Singular basis",
        "Singular basis",
        "Orthogonality",
        "Natural Manifold",
    ]  # unfolded by the second key
    browser.execute_script("arguments[0].focus()", find(browser, ".node.thesis"))
    browser.switch_to.active_element.send_keys("\ue007")
    assert find(browser, "#panel h2").text == "Natural Manifold"


def test_every_chart_has_its_data_and_every_table_its_buttons(browser):
    assert len(every(browser, "details.data")) == len(every(browser, "#forest, #tradeoff, #curves, #rate-curves"))
    bare = browser.execute_script(
        """const copied = table => table.parentElement?.nextElementSibling?.matches('.copy');
        return [...document.querySelectorAll('#page table')].filter(table => table.checkVisibility()
          && !table.closest('details.data, .tabulator') && !copied(table)).length"""
    )
    assert bare == 0


def test_print_shows_the_tables(browser, page):
    look(browser, 900, media="print")
    tables = [table for table in every(browser, ".static table") if table.is_displayed()]
    assert len(tables) == 2
    assert not find(browser, "#board-grid").is_displayed()
    look(browser, 1280)


def test_axe_finds_no_violation(browser):
    axe = FRONTEND / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.exists():
        pytest.skip("needs axe-core: run `npm ci` in frontend/")
    for theme, fragment in itertools.product(("light", "dark"), ("page", "claim-dora-beats-lora", "method-oft")):
        look(browser, 1280, theme)
        go(browser, fragment)
        browser.execute_script(axe.read_text())
        found = browser.execute_async_script("axe.run(document, {resultTypes: ['violations']}).then(arguments[0])")
        said = [(each["id"], [node["html"][:200] for node in each["nodes"][:3]]) for each in found["violations"]]
        assert said == [], (theme, fragment)


def test_cells_of_a_sweep_are_in_one_report(chrome, tmp_path):
    """Two boards, made of one study's by another task list: the choice changes grid, charts and tables."""
    from dataclasses import replace

    whole = analysed(played(("lora", "oft"), gains={"lora": 0.2, "oft": 0.22}, noise=0.002))
    other = analysed(played(("lora", "oft"), gains={"lora": 0.1, "oft": 0.05}, noise=0.002)).main
    write_report(replace(whole, others=(other,)), tmp_path / "report.html")
    look(chrome, 1280)
    chrome.get((tmp_path / "report.html").as_uri())
    first = column(chrome, 0), column(chrome, 3)
    assert first[0] == ["oft", "lora"]
    options = every(chrome, "#board-grid select option")
    options[1].click()
    assert column(chrome, 0) == ["lora", "oft"]
    assert [part.get_attribute("hidden") is None for part in every(chrome, "[data-board]")] == [False, True]
    assert chrome.get_log("browser") == []


def test_ten_thousand_trials_fit_five_megabytes(chrome, analysis, tmp_path):
    from dataclasses import replace

    rows = [replace(analysis.main.trials[i % len(analysis.main.trials)], id=f"{i:016x}", seed=i) for i in range(10_000)]
    write_report(replace(analysis, main=replace(analysis.main, trials=tuple(rows))), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 5e6
    chrome.get((tmp_path / "report.html").as_uri() + f"#t-{9_876:016x}")
    (row,) = soon(lambda: every(chrome, ".tabulator-row.found"))
    assert row.text.startswith(f"{9_876:016x}")
    assert len(every(chrome, "#trials .tabulator-row")) < 200  # only those in view are made


def test_one_very_wide_interval_does_not_squeeze_the_others(chrome, analysis, tmp_path):
    """The widest one of an actual study was ten thousand times as wide as its neighbours'."""
    from dataclasses import replace

    rows = list(analysis.main.scoreboard.rows)
    at = next(i for i, row in enumerate(rows) if row.contestant == "oft")
    rows[at] = replace(rows[at], versus=replace(rows[at].versus, low=-880.0, high=880.0))
    scoreboard = replace(analysis.main.scoreboard, rows=tuple(rows))
    write_report(replace(analysis, main=replace(analysis.main, scoreboard=scoreboard)), tmp_path / "report.html")
    chrome.get((tmp_path / "report.html").as_uri())
    ticks = [text.text.replace("\u2212", "-") for text in every(chrome, '#forest [data-mark="x-axis tick label"] text')]
    assert max(abs(float(text)) for text in ticks) < 1


def test_the_built_files_are_those_of_the_sources(tmp_path):
    if not shutil.which("node") or not (FRONTEND / "node_modules" / "esbuild").exists():
        pytest.skip("needs node and `npm ci` in frontend/")
    subprocess.run(["node", "build.mjs", str(tmp_path)], cwd=FRONTEND, check=True, capture_output=True)
    built = FRONTEND.parent / "adapterlab" / "report" / "assets"
    for file in built.iterdir():
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), (
            f"{file.name}: run `npm run build` in frontend/"
        )


def test_the_data_cannot_end_their_element(analysis, tmp_path):
    from dataclasses import replace

    study = analysis.main.study.model_copy(update={"title": "</script><script>alert(1)</script>"})
    write_report(replace(analysis, main=replace(analysis.main, study=study)), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in text
    assert text.count("<script") == 2
    assert json.loads(text.split('id="report-data">')[1].split("</script>")[0])["study"] == "made-up"
