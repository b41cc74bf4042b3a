# Two commands matter: `make demo` and `make test`. Everything they need is installed into .venv from the lock files.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-peers lint types arrows generated docs-fresh check bench bench-apiserver test-planted lock clean
.DEFAULT_GOAL := help

help: ## Show this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

$(VENV)/run.stamp: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"csisidecar needs Python 3.11 or newer, {sys.executable} is {v[0]}.{v[1]}; run: make PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --config-settings editable_mode=compat -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@touch $@

demo: $(VENV)/run.stamp ## A volume's whole life on the embedded API server and driver
	@$(BIN)/csisidecar demo

test: $(VENV)/dev.stamp ## All tests
	$(BIN)/python -m pytest

test-planted: $(VENV)/dev.stamp ## Plant 20 one-line faults and see a named test catch each
	$(BIN)/python -m tests.planted

build/peers/stamp: requirements-peers.lock
	@$(PYTHON) -m venv build/peers
	@build/peers/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-peers.lock
	@touch $@

test-peers: $(VENV)/dev.stamp build/peers/stamp ## Other people's clients, drivers and sidecars meet ours; says what ran, or why not
	@$(BIN)/python -m tests.peers build/peers/bin/python $(PEERS)

bench: $(VENV)/run.stamp ## Figures: start, memory, requests and volumes a second (ARGS="--kubeconfig FILE" for another server)
	$(BIN)/python -m csisidecar.demo.bench $(ARGS)

bench-apiserver: $(VENV)/dev.stamp ## Rates and memory of the embedded API server with 60,000 objects
	@$(BIN)/python -m tests.peers.rates

lint: $(VENV)/dev.stamp ## Lint and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp ## Strict types
	$(BIN)/mypy

arrows: $(VENV)/dev.stamp ## Who may import whom
	$(BIN)/lint-imports --no-cache

generated: $(VENV)/dev.stamp ## Generated code and pages are fresh
	$(BIN)/python protos/generate.py --check
	$(BIN)/python -m csisidecar.cli.flags_page --check
	$(BIN)/python -m csisidecar.cli.rbac_page --check

check: lint types arrows generated test ## What CI runs

lock: ## Pin what is installed in a fresh environment (maintainers)
	$(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet --upgrade setuptools .

	build/lock/bin/python -m pip freeze --all --exclude csisidecar --exclude pip | LC_ALL=C sort -f > requirements.lock
	build/lock/bin/python -m pip install --quiet '.[dev]'
	build/lock/bin/python -m pip freeze --all --exclude csisidecar --exclude pip | LC_ALL=C sort -f > requirements-dev.lock
	rm -r build/lock

clean: ## Remove what the commands above made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
