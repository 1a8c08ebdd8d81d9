# make real: install and search 20,000 real dimuons (2.6 MB are fetched).   make demo: the seven steps on simulated events.
# make test: install and run the quick tests (under three minutes).
# make slow: all tests.   make checks: lint, format, types, contracts, doctests, docs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONFIG ?= configs/demo.yaml
PYTEST_OPTIONS ?= --numprocesses 2 --dist loadfile --no-loadscope-reorder
export MPLBACKEND := Agg
# linear algebra in one thread: several processes share the cores, and a sum's last digit does not depend on their number
export OPENBLAS_NUM_THREADS := 1
# many processes start: each would compile the package anew where bytecode is not kept
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo real run test slow coverage bench checks lint format types contracts doctest docs clean

demo: run

# real, fully measured data: 20,000 dimuons of 2011 from the CERN Open Data portal
real:
	$(MAKE) run CONFIG=configs/upsilon_2011.yaml

install: $(VENV)/installed

# what is stale of the seven steps, in order, on any analysis: make run CONFIG=configs/upsilon.yaml
run: $(VENV)/installed
	$(BIN)/python -m dimuon run $(CONFIG)

test: $(VENV)/installed
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_OPTIONS)

# the long checks too
slow: $(VENV)/installed
	HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest $(PYTEST_OPTIONS)

# the same, with the lines that no test reaches
coverage: $(VENV)/installed
	$(BIN)/python -m pytest $(PYTEST_OPTIONS) --cov=dimuon --cov-report=term

# times, memory and ratios to other programs, written to results/bench/
bench: $(VENV)/installed
	@set -e; for name in significance flows bdts skim tables validity report; do \
	  if [ -f tests/benchmarks/$$name.py ]; then $(BIN)/python -m tests.benchmarks.$$name; fi; done

checks: lint format types contracts doctest docs

lint: $(VENV)/installed
	$(BIN)/ruff check .

format: $(VENV)/installed
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	$(BIN)/python -m mypy --strict

# which wing may import which: the contracts in pyproject.toml
contracts: $(VENV)/installed
	$(BIN)/lint-imports

doctest: $(VENV)/installed
	$(BIN)/python -m pytest --doctest-modules dimuon

# the API pages, in site/
docs: $(VENV)/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# the lowest versions that the ranges in pyproject.toml allow, for the job of that name in CI (needs uv)
lowest.txt: pyproject.toml
	uv pip compile --quiet --python-version 3.11 --resolution lowest-direct --extra dev --output-file $@ pyproject.toml

# exact versions from requirements.lock, ranges from pyproject.toml
$(VENV)/installed: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev,docs]'
	touch $@

clean:
	rm -rf $(VENV) site data/*/ results/*/
