# `make quickstart` and `make test` work on a bare machine with Python 3.10 or newer; both reuse .venv afterwards.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# A stamp that is newer than pyproject.toml means that the environment is current.
STAMP := $(VENV)/.installed

DOCS_STAMP := $(VENV)/.installed-docs

.PHONY: quickstart test lint format docs clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $(STAMP)

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[docs]"
	@touch $(DOCS_STAMP)

quickstart: $(STAMP)
	$(BIN)/taid-vlm quickstart

test: $(STAMP) lint
	$(BIN)/python -m pytest -n logical --dist worksteal

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The site, in build/docs/site; a dead link or anchor is an error.
docs: $(DOCS_STAMP)
	$(BIN)/python tools/build_docs.py

clean:
	rm -rf $(VENV) build dist
