"""Size of a report with many trials, and the time until a browser has drawn it.

    python -m benchmarks.report_page              # 10,000 trials, five loads

The outcomes are made up; contestants are all methods, so that tables and charts are as long as a report's get. Needs
Debian's chromium and chromium-driver. Time runs from the request until scripts are done and the first frame is painted.
Figures: `results/report_page.md`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

from selenium import webdriver

from adapterlab import argmap
from adapterlab.adapters import all_adapters
from adapterlab.report.page import write_report
from adapterlab.resources import shipped
from tests.lab.made_up import analysed, played

SKIPPED = ("bitfit", "frozen")
DRAWN = """
const done = arguments[0];
requestAnimationFrame(() => setTimeout(() => done(performance.now())));
"""


def page_with(trials: int, folder: Path) -> Path:
    rng = random.Random(0)
    names = tuple(name for name in all_adapters() if name not in SKIPPED)
    gains = {name: rng.uniform(0.02, 0.12) for name in names}
    results = played(names, gains=gains, forgetting=gains, noise=0.004, best=dict.fromkeys(names, 1.5))
    analysis = analysed(results, argmap.load(shipped("maps", "natural_manifold.argdown")))
    own = analysis.main.trials
    rows = tuple(replace(own[i % len(own)], id=f"{i:016x}", seed=i) for i in range(trials))
    write_report(replace(analysis, main=replace(analysis.main, trials=rows)), folder / "report.html")
    return folder / "report.html"


def load(page: Path, times: int) -> list[float]:
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ):
        options.add_argument(flag)
    with webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver"))) as browser:
        found = []
        for _ in range(times):
            browser.get("about:blank")
            browser.get(page.as_uri())
            found.append(browser.execute_async_script(DRAWN) / 1000)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--loads", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = page_with(chosen.trials, Path(folder))
        seconds = load(page, chosen.loads)
        size = page.stat().st_size / 1e6
    low, high = min(seconds), max(seconds)
    print(f"{chosen.trials:,} trials: {size:.2f} MB")
    print(f"drawn after {statistics.median(seconds):.2f} s ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
