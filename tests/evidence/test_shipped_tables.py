"""The package's tables: equal to their sources, and the fit beside them is that of the tables."""

import csv
import json
import os
from pathlib import Path

import pytest

from adapterlab.evidence import Store
from adapterlab.evidence.cells import cells_of
from adapterlab.evidence.fit_carry import FITTED, fit_shipped, predict_held_out
from adapterlab.evidence.from_study import table_of
from adapterlab.evidence.store import SHIPPED, tuned_share
from adapterlab.evidence.table import write_table
from tests.lab.analysis.quick_study import replayed
from tools.evidence_tables import TABLES

SOURCES = Path(os.environ.get("ADAPTERLAB_SOURCES", Path(__file__).parents[3] / "shared" / "sources"))
needs_sources = pytest.mark.skipif(
    not SOURCES.is_dir(), reason="the sources' own data are not here (../shared/sources)"
)


@needs_sources
@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_what_the_script_writes_from_its_source(name):
    rows, about = TABLES[name]
    table = next(table for table in Store().tables if table.source == name)
    assert table.scores == tuple(rows(SOURCES))
    assert table.about == about


@needs_sources
def test_every_cell_of_the_sweep_is_there_with_its_number():
    """Read here without the script: 985 cells, the mean of all accuracies, and PiSSA's best in one setting."""
    own = list(csv.DictReader((SOURCES / "lr-matters.csv").read_text().splitlines()))
    scores = next(table for table in Store().tables if table.source == "lr-matters").scores
    assert len(scores) == len(own) == 985
    assert sum(s.value for s in scores) == pytest.approx(sum(float(row["accuracy_mean"]) for row in own))
    setting = [r for r in own if (r["table"], r["method"], r["batch"]) == ("5", "PiSSA", "16")]
    (cell,) = [c for c in cells_of(scores) if c.model == "Qwen3-0.6B" and c.setting == "rank 8, batch 16"]
    assert cell.best("pissa").value == max(float(r["accuracy_mean"]) for r in setting)


def test_every_table_states_its_title_date_licence_and_flaws():
    for table in Store().tables:
        assert {"title", "date", "licence", "flaws"} <= table.about.keys(), table.source


def test_eighteen_of_sixty_four_papers_tuned_the_rate():
    assert tuned_share() == 18 / 64


def test_the_quick_study_is_the_one_that_is_recorded(tmp_path):
    study, contests, _ = replayed(tmp_path, ())
    table = next(table for table in Store().tables if table.source == "adapterlab-quick")
    found = table_of(study, contests).scores
    assert [(s.method, s.task, s.metric) for s in found] == [(s.method, s.task, s.metric) for s in table.scores]
    assert [s.value for s in found] == pytest.approx([s.value for s in table.scores], rel=1e-8)
    assert [s.sd for s in found if s.sd] == pytest.approx([s.sd for s in table.scores if s.sd], rel=1e-6)


def test_the_fit_beside_the_tables_is_theirs():
    found, stated = fit_shipped(), json.loads(FITTED.read_text())
    assert found.carry.size == pytest.approx(stated["size"], rel=0.01)
    assert found.carry.examples == pytest.approx(stated["examples"], rel=0.01)
    assert found.size_interval[0] < found.carry.size < found.size_interval[1]


@pytest.mark.soak
def test_intervals_of_held_out_models_hold_the_measured_differences():
    cells = [cell for cell in cells_of(Store().scores) if cell.metric == "in_domain"]
    found = predict_held_out(cells)
    within = sum(abs(p.predicted - p.measured) <= 1.645 * p.error for p in found)
    assert len(found) >= 25
    assert 0.75 <= within / len(found) <= 1


def test_tables_are_small_and_written_in_one_way():
    for file in SHIPPED.glob("*.csv"):
        assert file.stat().st_size < 100_000
        table = next(table for table in Store().tables if table.source == file.stem)
        assert write_table(table) == file.read_text()
