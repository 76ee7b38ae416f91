# Everything from a fresh checkout with Python and make. Each target sets up its own environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The CPU build where it is to be had; else whatever pip offers for this machine.
TORCH ?= torch==2.13.0
OUT ?= runs/demo
WORKERS ?= 2

.PHONY: demo test check format bench bench-peers docs clean

demo: $(VENV)/.hf
	$(BIN)/linrep get smollm2-135m
	$(BIN)/linrep demo --out $(OUT)

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n $(WORKERS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	$(BIN)/linrep get smollm2-135m
	for script in $(filter-out benchmarks/bench_peers.py,$(wildcard benchmarks/bench_*.py)); do \
		$(BIN)/python $$script || exit 1; done

# Apart from bench: each peer is installed into an environment of its own first, over 1 GB each.
bench-peers: $(VENV)/.hf
	$(BIN)/linrep get smollm2-135m
	$(BIN)/python benchmarks/bench_peers.py

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict --quiet --config-file docs/mkdocs.yml

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "linrep needs Python 3.11 or later, $(PYTHON) is older: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.hf: pyproject.toml | $(VENV)/bin/python
	$(PIP) install --quiet $(TORCH) || $(PIP) install --quiet torch
	$(PIP) install --quiet -e ".[hf]"
	touch $@

$(VENV)/.dev: $(VENV)/.hf
	$(PIP) install --quiet -e ".[dev]"
	touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(PIP) install --quiet -e ".[docs]"
	touch $@

clean:
	rm -rf $(VENV) .venv-min .venv-peers runs site
