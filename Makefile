# Every target sets up what it needs in .venv; a second call starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
RUN := runs/quickstart

.PHONY: quickstart test check bench fuzz vendor clean
.DELETE_ON_ERROR:

quickstart: $(VENV)/.all
	$(BIN)/headwater run recipes/quickstart.yaml --out $(RUN)
	@echo
	@echo "report:  $(RUN)/report.html"
	@echo "chat:    $(BIN)/headwater chat $(RUN)"
	@echo "serve:   $(BIN)/headwater serve $(RUN)"

# Two processes for two cores: a second thread in each would wait for the other.
test: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

bench: $(VENV)/.bench
	for file in benchmarks/[!_]*.py; do $(BIN)/python "$$file" --quick || exit 1; done

# What the chat page brings along, anew from npm by vendor/package-lock.json. It is kept in the repository: nobody needs
# npm to build, to install or to serve.
vendor:
	$(PYTHON) vendor/fetch.py

# Five minutes of requests that nobody should send: none may make the server fail.
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.serve.fuzz --seconds 300

# Runs are kept: they are work, not litter.
clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else \
		"Python 3.11 or newer is needed; give another one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

# torch first and by the constraint alone: whatever needs it later takes this build and no larger one.
$(VENV)/.torch: constraints.txt | $(VENV)/.python
	$(PIP) torch
	@touch $@

$(VENV)/.all: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[all]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.torch
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.all

$(VENV)/.fuzz: pyproject.toml $(VENV)/.dev
	$(PIP) --editable '.[fuzz]'
	@touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.dev
	$(PIP) --editable '.[bench]'
	@touch $@
