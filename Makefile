# `make quickstart` and `make test` work on a bare machine with Python 3.10 or newer; both reuse .venv afterwards.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A stamp that is newer than pyproject.toml means that the environment is current.
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs

.DEFAULT_GOAL := help
.PHONY: help quickstart test lint format docs dist clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s%s\n", $$1, $$2}' Makefile

$(STAMP): pyproject.toml
	@echo "installing into $(VENV): torch with its CUDA libraries and the rest, 6 GB on disk; pip is silent for some minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $(STAMP)

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@touch $(DOCS_STAMP)

quickstart: $(STAMP) ## fetch weights and data, distil three students, compare them
	$(BIN)/taid-vlm quickstart

test: lint ## lint, then every test on all cores
	$(BIN)/python -m pytest -n logical --dist worksteal

lint: $(STAMP) ## ruff and mypy; what the hooks of .pre-commit-config.yaml run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(DOCS_STAMP) ## the site, in build/docs/site; a dead link or anchor is an error
	$(BIN)/python tools/build_docs.py

dist: $(STAMP) ## wheel and sdist, in dist
	$(BIN)/python -m hatchling build

clean: ## remove the environment and what was built
	rm -rf $(VENV) build dist
