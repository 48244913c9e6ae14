# What there is to do: `make run` to have it, `make test` to change it.
# Needs python3 (3.11 or newer), make, and the package registries.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each stamp's name holds what was installed, so that a second run installs nothing and a change is noticed.
RUNTIME := $(VENV)/.installed-$(shell cat requirements.txt | cksum | cut -d' ' -f1)
DEVELOPMENT := $(VENV)/.installed-dev-$(shell cat requirements.txt requirements-dev.txt | cksum | cut -d' ' -f1)
PYTEST := $(BIN)/pytest
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --custom-compile-command "make lock"
# The second leg of the tests: the newest Python and Django, where that Python is installed.
NEXT_PYTHON ?= $(firstword $(shell python3.13 -c "import sys; print(sys.executable)" 2>/dev/null) \
	$(wildcard $(HOME)/.pyenv/versions/3.13.*/bin/python3.13))
NEXT := .venv-next/.installed-$(shell cat requirements-next.txt | cksum | cut -d' ' -f1)
TEMPLATES := $(shell find templates operators api -name '*.html')
QUICK := not faults and not minutes and not bench and not screens and not npm

# What every change has to pass: the tests, and short forms of what else has a command.
CI := test browsers postgresql linters short-faults short-minutes short-storm

.PHONY: help run demo ci $(CI) test-next lint format linters lock map fuzz storm hosts mutants minutes bench bench-peers screens chromium
.DELETE_ON_ERROR:

help:
	@echo "make run      have it: http://127.0.0.1:8000/ (PORT, DATA_DIR, DATABASE_URL, ... from the environment)"
	@echo "make demo     the same with a day of history and a living board"
	@echo "make test     lint, types, and the tests on SQLite"
	@echo "make browsers pages in a real browser   make postgresql  the tests of what differs there"
	@echo "make ci       what every change has to pass: all of these, linters, real minutes and a storm"
	@echo "make test-next the same, without browsers and servers, on Python 3.13 and Django 6.1"
	@echo "make faults   kills and seeds       make minutes  real minutes"
	@echo "make storm    a simulated world under faults (SEED=17, SEEDS=1000)"
	@echo "make mutants  small faults in the code, and how many of them the tests find (SAMPLE=100, SEED=1)"
	@echo "make hosts    hosts in network namespaces, cut off, killed and delayed; a standby is promoted (as root)"
	@echo "make bench    measurements          make screens  the pictures"
	@echo "make bench-peers Quarterdeck beside other queues (ARGUMENTS=\"--size 1000000\")"
	@echo "make linters  Spectral, Redocly and generated TypeScript clients, on the description of the API"
	@echo "make fuzz     searches for lists that take more than linear time to read"

# The runner takes the place of the shell: what make is told, it hears.
run: $(RUNTIME)
	@exec $(BIN)/python -m runner

demo: $(RUNTIME)
	@DATA_DIR="$${DATA_DIR:-var/demo}" exec $(BIN)/python -m runner demo

test: lint
	$(BIN)/python tests/run.py sqlite -m "$(QUICK)"

browsers: chromium
	$(BIN)/python tests/run.py browsers -m "$(QUICK)"

postgresql: $(DEVELOPMENT)
	$(BIN)/python tests/run.py postgresql -m "$(QUICK)"

# All of them, even if one fails; at the end it says which did.
ci:
	@failed=; for part in $(CI); do \
		echo "=== make $$part ($$(date -u +%H:%M:%S)) ==="; \
		$(MAKE) --no-print-directory $$part || failed="$$failed $$part"; \
	done; \
	echo "=== $${failed:+failed:$$failed }($$(date -u +%H:%M:%S)) ==="; [ -z "$$failed" ]

# Without that Python the leg is skipped, and says so.
ifeq ($(NEXT_PYTHON),)
test-next:
	@echo "=== Skipped: Python 3.13 with Django 6.1, since there is no python3.13 here ==="
else
test-next: $(NEXT)
	@echo "=== On Python 3.13 and Django 6.1 ==="
	.venv-next/bin/python -W error::DeprecationWarning:django.utils.deprecation -m pytest -q -n 2 --dist loadfile -m "$(QUICK)" \
		tests/api tests/dashboard tests/operators tests/scheduling tests/settings
endif

lint: $(DEVELOPMENT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/djade --check $(TEMPLATES)

format: $(DEVELOPMENT)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/djade $(TEMPLATES) || true

# Every dependency, exactly and with its hashes, from the .in files.
lock: $(DEVELOPMENT)
	$(LOCK) --python-version 3.11 requirements.in -o requirements.txt
	$(LOCK) --python-version 3.11 requirements-dev.in -c requirements.txt -o requirements-dev.txt
	$(LOCK) --python-version 3.13 requirements.in requirements-dev.in --overrides requirements-next.in -o requirements-next.txt
	$(LOCK) --python-version 3.11 benchmarks/peers/requirements.in -o benchmarks/peers/requirements.txt

map: $(DEVELOPMENT)
	$(BIN)/python docs/make_map.py
	$(BIN)/python docs/make_queue_fields.py

faults: $(DEVELOPMENT)
	$(PYTEST) -m faults tests

# Clusters that are killed while they write a list, or stopped; and a backup of PostgreSQL that is restored.
short-faults: $(DEVELOPMENT)
	$(PYTEST) -q -m faults tests/flows/test_allocation_on_a_cluster.py tests/runner/test_backup.py tests/runner/test_broker.py

# One seed: SEED=17. Others: SEEDS=1000, FROM=5000. On PostgreSQL: DATABASE_URL.
storm: $(DEVELOPMENT)
	$(BIN)/python -m tests.storm $(if $(SEED),$(SEED) --trace,--seeds $(or $(SEEDS),10000) --from $(or $(FROM),0) --processes $(or $(PROCESSES),2) --shrink)

mutants: $(DEVELOPMENT)
	$(BIN)/python -m tests.mutation --sample $(or $(SAMPLE),100) --seed $(or $(SEED),1)

# As root, where network namespaces can be made; otherwise it is skipped, and says so.
hosts: $(DEVELOPMENT)
	$(BIN)/python -m tests.hosts

minutes: $(DEVELOPMENT)
	$(PYTEST) -m minutes tests

# Whether requests are late depends on the machine; that each is made once, and none early, doesn't.
short-minutes: $(DEVELOPMENT)
	BUSY_MACHINE=1 $(PYTEST) -q -m minutes tests/flows -k "start_at_their_slots or half_of_the_answers_fail"

# It contains those seeds that reach every state of the table.
short-storm: $(DEVELOPMENT)
	$(BIN)/python -m tests.storm --seeds 600 --processes 2 --shrink

fuzz: $(DEVELOPMENT)
	FUZZ_EXAMPLES=$${FUZZ_EXAMPLES:-300} $(PYTEST) tests/scheduling/parsing/test_bounds.py -k no_pattern

bench: $(DEVELOPMENT)
	$(BIN)/python -m benchmarks

# Installs them in var/peers.
bench-peers: $(DEVELOPMENT)
	$(BIN)/python -m benchmarks.peers $(ARGUMENTS)

linters: $(DEVELOPMENT)
	$(BIN)/pytest -q -m npm

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
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	@rm -f $(VENV)/.installed-dev-*
	@touch $@

$(NEXT):
	@$(NEXT_PYTHON) -m venv .venv-next || { rm -rf .venv-next; exit 1; }
	@.venv-next/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-next.txt
	@rm -f .venv-next/.installed-*
	@touch $@
