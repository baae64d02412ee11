# One verb per thing that a developer does. `make demo` is all that a newcomer needs.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Files of tests side by side: much of their time is spent waiting for Ray to start.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: install demo test quick long lint format docs house bench durability s3-real clean

install: $(READY)

# The marker is written last: an interrupted installation is done again.
$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "raffect needs Python 3.11: install it, or give make PYTHON=/path/to/python3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (about 7 GB, some minutes) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,lint]'
	@touch $(READY)

demo: install
	@$(BIN)/raffect demo

test: install
	$(PYTEST) --durations 10

quick: install
	$(PYTEST) -m "not slow and not long and not ray"

# A third of the tests that `make test` leaves out: make long THIRD=0, 1 or 2; by default the commit's.
long: install
	$(PYTEST) -m long --third $(or $(THIRD),$$($(BIN)/python -m tests.thirds)) --durations 10

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry raffect tune_spaces
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation as a site, which opens from its files.
docs: install
	$(BIN)/python -m mkdocs build --quiet
	@echo build/site/index.html

# Size and structure of the code in figures; `make house OF=DIR` for another checkout.
house: install
	@$(BIN)/python -m tests.house $(OF)

bench: install
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python -m tests.benchmarks.$$(basename $$file .py) || exit 1; done

# All long tests, of which CI runs a third each time; then what is killed, cut, mutated and damaged
# at random, a table of each with what came of it: about an hour and a half in all.
durability: install
	@wrong=0; $(BIN)/python -m pytest -m long || wrong=1; for table in sweeps kills wires texts stored; do echo "== $$table"; $(BIN)/python -m tests.durability.run $$table --seed 1 || wrong=1; done; exit $$wrong

# What a store must do, against Ceph's gateway, which is no moto and no AWS. Needs root's
# apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common
s3-real: install
	$(BIN)/python -m pytest --s3-real tests/store tests/sweep/test_journal.py tests/durability/test_lost_answers.py

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
