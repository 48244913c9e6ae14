# What there is to do: `make run` to have it, `make test` to change it.
# Needs python3 (3.11 or newer), make, and the package registries.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each stamp's name holds what was installed, so that a second run installs nothing and a change is noticed.
RUNTIME := $(VENV)/.installed-$(shell cat requirements.txt | cksum | cut -d' ' -f1)
DEVELOPMENT := $(VENV)/.installed-dev-$(shell cat requirements.txt requirements-dev.txt | cksum | cut -d' ' -f1)
PYTEST := $(BIN)/pytest
QUICK := not faults and not minutes and not bench and not screens

.PHONY: help run demo test lint faults minutes bench screens chromium image
.DELETE_ON_ERROR:

help:
	@echo "make run      have it: http://127.0.0.1:8000/ (PORT, DATA_DIR, DATABASE_URL, ... from the environment)"
	@echo "make demo     the same with a day of history and a living board"
	@echo "make test     everything that belongs to every change"
	@echo "make faults   kills and seeds       make minutes  real minutes"
	@echo "make bench    measurements          make screens  the pictures"

# The runner takes the place of the shell: what make is told, it hears.
run: $(RUNTIME)
	@exec $(BIN)/python -m runner

demo: $(RUNTIME)
	@DATA_DIR="$${DATA_DIR:-var/demo}" exec $(BIN)/python -m runner demo

test: $(DEVELOPMENT) chromium
	$(BIN)/python tests/run.py -m "$(QUICK)"

lint: $(DEVELOPMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy

faults: $(DEVELOPMENT)
	$(PYTEST) -m faults tests

minutes: $(DEVELOPMENT)
	$(PYTEST) -m minutes tests

bench: $(DEVELOPMENT)
	$(BIN)/python -m benchmarks

screens: $(DEVELOPMENT) chromium
	$(PYTEST) -m screens tests

chromium: $(DEVELOPMENT)
	@$(BIN)/python tests/chromium.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Quarterdeck needs Python 3.11 or newer")'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(RUNTIME): | $(BIN)/python
	@echo "Installing (once)."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@rm -f $(VENV)/.installed-[0-9]*
	@touch $@

$(DEVELOPMENT): $(RUNTIME)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@rm -f $(VENV)/.installed-dev-*
	@touch $@
