# The whole ritual of a change, in one word each. `make` alone says what there is.
PYTHON ?= python3
BIN := .venv/bin
STREAMS ?= 1000000
MINUTES ?= 1440
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet --custom-compile-command "make lock"

.PHONY: help check test format soak lock
help: ## say what there is
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(BIN)/python: requirements/test.lock
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes -r requirements/test.lock
	$(BIN)/pip install --quiet --no-deps -e .
	touch $@

check: $(BIN)/python ## everything CI does: style, types, imports, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

test: $(BIN)/python ## the tests alone
	$(BIN)/python -m pytest

format: $(BIN)/python ## put the style right
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

soak: $(BIN)/python ## STREAMS streams through faults, at most MINUTES long; goes on where it was stopped
	$(BIN)/python -m tests.faults.soak --streams $(STREAMS) --minutes $(MINUTES)

lock: $(BIN)/python ## compile the lock files again from pyproject.toml
	$(COMPILE) --extra embedded --extra engine --extra plan pyproject.toml -o requirements/serve.lock
	$(COMPILE) --extra embedded --extra engine --extra plan --extra otlp --extra test pyproject.toml -o requirements/test.lock
