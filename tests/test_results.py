"""Published results: what their pages say is what their files hold."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
REAL = ROOT / "results" / "real-1"
VERDICT = json.loads((REAL / "verdict.json").read_text())
TEXT = " ".join((REAL / "README.md").read_text().split())


def contestants():
    (board,) = [board for board in VERDICT["boards"] if board["tasks"] == ["docstrings", "arithmetic"]]
    return {row["name"]: row for row in board["contestants"]}


def test_the_answer_is_that_of_the_scoreboard():
    rows = contestants()
    gains = [row["gain"]["mean"] for row in rows.values()]
    assert len(rows) == 8
    assert f"gain {min(gains):.2f} to {max(gains):.2f} nats per byte" in TEXT
    assert all(row["p_holm"] is None or row["p_holm"] > 0.9 for row in rows.values())
    forgot = {name: row["forgetting"]["mean"] for name, row in rows.items()}
    assert f"OFT loses {forgot['oft']:.3f} nats" in TEXT
    assert f"LoRA {forgot['lora']:.3f}" in TEXT
    assert all(0.15 < rows[name]["parameters"] / rows["lora"]["parameters"] < 0.25 for name in ("vera", "ia3"))


def test_the_map_moved_as_it_says():
    thesis = VERDICT["theses"]["Natural Manifold"]["bayes"]
    assert f"from {thesis['before']:.3f} to {thesis['after']:.3f}, at a relevance of {VERDICT['relevance']:.2f}" in TEXT
    claims = {claim["claim"]: (claim["before"], claim["after"]) for claim in VERDICT["claims"]}
    for title in ("OFT Forgets Less", "VeRA Matches LoRA", "PiSSA Beats LoRA"):
        assert "{:.2f} to {:.2f}".format(*claims[title]) in TEXT, title


def test_its_trials_are_those_behind_the_verdict():
    table = pd.read_parquet(REAL / "trials.parquet")
    assert f"{len(table)} trials" in TEXT
    named = {t for claim in VERDICT["claims"] for pair in claim.get("pairs", []) for t in pair["trials"]}
    assert named
    assert named <= set(table["trial"])
    assert set(table["status"]) <= {"ok", "diverged"}


def test_its_links_lead_to_files_and_it_is_small():
    for target in re.findall(r"\]\(([^)]+)\)", (REAL / "README.md").read_text()):
        assert (REAL / target).exists(), target
    assert sum(file.stat().st_size for file in REAL.iterdir()) < 5 * 2**20


def test_no_path_of_the_machine_is_in_the_files():
    for file in REAL.iterdir():
        if file.suffix in (".json", ".html", ".md"):
            assert not re.search(r"/(?:work|root|home|tmp)/", file.read_text()), file
        else:
            frame = pd.read_parquet(file).astype(str)
            assert not frame.apply(lambda column: column.str.contains(r"/(?:work|root|home|tmp)/")).any().any()


@pytest.mark.parametrize("key", ["by_relevance", "elsewhere", "semantics"])
def test_the_verdict_is_of_the_present_form(key):
    assert VERDICT[key]
