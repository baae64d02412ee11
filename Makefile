# One verb per thing that a developer does. `make demo` is all that a newcomer needs.
PYTHON ?= $(or $(shell command -v python3.11 || command -v python3.12 || command -v python3.13),python3.11)
VENV := .venv
BIN := $(VENV)/bin
# What each verb needs. A marker is written last: an interrupted installation is done again.
EXTRAS_demo :=
EXTRAS_install := [cluster,dashboard,local,onnx,video]
EXTRAS_docs := [docs]
EXTRAS_test := [test,lint]
DEMO := $(VENV)/.ready-demo
READY := $(VENV)/.ready-install
DOCS := $(VENV)/.ready-docs
TESTS := $(VENV)/.ready-test
# CPU=1: PyTorch without CUDA. Where both are offered, pip takes the one with the longer version.
TORCH := $(if $(CPU),--extra-index-url https://download.pytorch.org/whl/cpu)
# Files of tests side by side: much of their time is spent waiting for Ray to start.
PYTEST := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: install demo test quick long lint format docs house bench durability s3-real clean

install: $(READY)

# Who has the tests' packages has the others' as well.
$(VENV)/.ready-%: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "raffect needs Python 3.11, 3.12 or 3.13: install one, or give make PYTHON=/path/to/python3"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) ($(if $(CPU),about 2 GB,about 7 GB; 2 GB with CPU=1), some minutes) ..."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt $(TORCH) --editable '.$(EXTRAS_$*)'
	@touch $(VENV)/.ready-$* $(DEMO) $(if $(filter test,$*),$(READY) $(DOCS))

demo: $(DEMO)
	@$(BIN)/raffect demo

test: $(TESTS)
	$(PYTEST) --durations 10

quick: $(TESTS)
	$(PYTEST) -m "not slow and not long and not ray"

# A third of the tests that `make test` leaves out: make long THIRD=0, 1 or 2; by default the commit's.
long: $(TESTS)
	$(PYTEST) -m long --third $(or $(THIRD),$$($(BIN)/python -m tests.thirds)) --durations 10

lint: $(TESTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry raffect tune_spaces
	$(BIN)/mypy

format: $(TESTS)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation as a site, which opens from its files.
docs: $(DOCS)
	$(BIN)/python -m mkdocs build --quiet
	@echo build/site/index.html

# Size and structure of the code in figures; `make house OF=DIR` for another checkout.
house: $(TESTS)
	@$(BIN)/python -m tests.house $(OF)

bench: $(TESTS)
	@for file in tests/benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python -m tests.benchmarks.$$(basename $$file .py) || exit 1; done

# All long tests, of which CI runs a third each time; then what is killed, cut, mutated and damaged
# at random, a table of each with what came of it: about an hour and a half in all.
durability: $(TESTS)
	@wrong=0; $(BIN)/python -m pytest -m long || wrong=1; for table in sweeps kills wires texts stored; do echo "== $$table"; $(BIN)/python -m tests.durability.run $$table --seed 1 || wrong=1; done; exit $$wrong

# What a store must do, against Ceph's gateway, which is no moto and no AWS. Needs root's
# apt-get install --no-install-recommends radosgw ceph-mon ceph-osd ceph-common
s3-real: $(TESTS)
	$(BIN)/python -m pytest --s3-real tests/store tests/sweep/test_journal.py tests/durability/test_lost_answers.py

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache
