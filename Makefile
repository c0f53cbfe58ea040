# `make` shows what there is. Everything is installed into .venv; nothing else on the machine is changed, except that
# `make test` installs a MariaDB server through the system's package manager if no MySQL-compatible server is found.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests of the whole wait a good part of their time for processes to start.
WORKERS ?= 2
# Dozens of processes are started, and each would translate the whole project anew.
export PYTHONDONTWRITEBYTECODE :=
SEEDS ?= 10

.DEFAULT_GOAL := help
.PHONY: help setup setup-test demo up test lint unit chaos benchmark clean

help: ## Show this help.
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## Create .venv with the `nsimport` command.

$(STAMP): pyproject.toml constraints.txt
	@scripts/setup-venv "$(PYTHON)" "$(VENV)" simulator
	@touch $@

setup-test: $(VENV)/.installed-test

$(VENV)/.installed-test: pyproject.toml constraints.txt
	@scripts/setup-venv "$(PYTHON)" "$(VENV)" test
	@touch $@ $(STAMP)

demo: setup ## Import a simulated company's sales orders with all they depend on. About two minutes.
	@$(BIN)/nsimport demo

up: setup ## Dagster's UI, its daemon and a NetSuite simulator, until Ctrl-C.
	@$(BIN)/nsimport up --simulator

test: setup-test ## Everything CI runs: linters, types, import rules, all tests.
	@scripts/ensure-mysql
	@scripts/ensure-chromium
	@$(MAKE) --no-print-directory lint
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: setup-test ## Ruff, mypy, import-linter.
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache >/dev/null || $(BIN)/lint-imports --no-cache

unit: setup-test ## Only the tests that need no server.
	@$(BIN)/python -m pytest nsimport_pipeline_tests/unit

chaos: setup-test ## Break imports on purpose: SEEDS=200, SEEDS=5-9 or SEEDS=3,7. About ten seconds a seed.
	@scripts/ensure-mysql
	@$(BIN)/python -m nsimport_pipeline_tests.chaos --seeds $(SEEDS)

benchmark: setup-test ## Measure against the bound that NetSuite's slots set, and against dlt. Takes minutes.
	@scripts/ensure-mysql
	@$(BIN)/python -m nsimport_pipeline_tests.benchmarks

clean: ## Remove .venv and what the demo left.
	@rm -rf $(VENV) .nsimport .dagster
