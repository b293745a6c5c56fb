# make run: a study on the embedded model and its report.  make test: the tests.  make setup: .venv alone.
# make reproduce: some published trials again.
# make dev: .venv with the tools for development.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check -q
SOURCES := pyproject.toml constraints.txt

.PHONY: setup dev locked lock run reproduce test soak check frontend bench tasks mutants clean

setup: .venv/installed

dev: .venv/installed-dev

.venv/installed: $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("adapterlab needs Python 3.11 or newer: make PYTHON=python3.11")'
	@echo 'Setting up .venv: a minute or two'
	@$(PYTHON) -m venv .venv
	@$(PIP) install -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

# As `make dev`, with the files whose hashes are in requirements.lock and no others: torch is then the index's own build.
locked: pyproject.toml requirements.lock
	@$(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes --no-deps -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch .venv/installed .venv/installed-dev

# Writes requirements.lock from constraints.txt: the hashes of all files of each version. Needs uv.
lock:
	printf 'hatchling\neditables\n' | uv pip compile pyproject.toml - --extra dev -c constraints.txt --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate -q -o requirements.lock

run: setup
	@$(BIN)/adapterlab run

# Trains 1 % of the published trials again, drawn at random, in 5 minutes: make reproduce REPRODUCE='--minutes 60 --share 0.1'
reproduce: setup
	@$(BIN)/adapterlab reproduce results $(REPRODUCE)

# The tests of a file run in one process, so that what they share is made once: some files train a study first.
test: .venv/installed-dev
	$(BIN)/pytest -n auto --dist loadfile

# The long tests: random kills, every method in lanes, simulated studies. Minutes to an hour.
soak: .venv/installed-dev
	$(BIN)/pytest -n auto --dist loadfile -m soak

# Every method's training step beside PEFT's: make bench BENCH='--methods hra --tokens 64'
bench: .venv/installed-dev
	$(BIN)/python -m benchmarks.adapters $(BENCH)

# What each task asks, by the scores of the simplest contestants: writes docs/tasks.md; half an hour on one core.
tasks: .venv/installed
	$(BIN)/python benchmarks/tasks.py

# Mutation tests of a random sample, about an hour on two cores: make mutants MUTANTS=50 ONLY=adapterlab/verdict
MUTANTS ?= 200
mutants: .venv/installed-dev
	$(BIN)/python tools/mutants.py --count $(MUTANTS) $(ONLY)

# The scripts and styles of the report's page, from frontend/ into adapterlab/report/assets. Needs Node and npm.
frontend:
	cd frontend && npm ci --silent && npm run --silent lint && npm run --silent build

# What .ci/run adds to the tests: style, types, import layers, and docstrings.
check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/check_docstrings.py

# The documentation site in site/; search needs it to be served: .venv/bin/python -m http.server -d site
.PHONY: docs docs-tables notebooks
docs: .venv/installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The tables and answers of the pages that come from results/*/ and the tables of evidence; run it when there are new results.
docs-tables: .venv/installed-dev
	$(BIN)/python -m tools.pages

# Runs the notebooks of examples/ and keeps what they print: two minutes.
notebooks: .venv/installed-dev
	PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python -m tools.pages.notebooks
