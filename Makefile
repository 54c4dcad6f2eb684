# Every target makes the environment it needs; nothing is installed outside this folder.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo run test test-real lint format bench lock docs clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/runtime: requirements.lock pyproject.toml
	$(PYTHON) -m venv "$(VENV)"
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch "$@"

$(VENV)/dev: $(VENV)/runtime requirements-dev.lock
	"$(BIN)/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch "$@"

demo: $(VENV)/runtime  ## three incidents on the stand-in stack: detected, decided, repaired, verified, replayed
	@"$(BIN)/python" -m examples.demo

run: $(VENV)/runtime  ## every role in one process, settings from ./sentinel.yml if there
	@"$(BIN)/sentinel" run

test: $(VENV)/dev  ## everything that needs PyPI alone
	@"$(BIN)/python" -m pytest -m "not real"

test-real: $(VENV)/dev  ## the suites on a real Kafka, Prometheus (2 and 3), Alertmanager, Loki, Kubernetes and Docker (had once, kept in a cache)
	@"$(BIN)/python" scripts/parts.py get kafka prometheus prometheus-3 alertmanager docker postgresql loki kubernetes || true
	@"$(BIN)/python" -m pytest -m real

lint: $(VENV)/dev  ## style, types, import contracts
	@"$(BIN)/ruff" check . && "$(BIN)/ruff" format --check .
	@"$(BIN)/mypy"
	@"$(BIN)/lint-imports"

format: $(VENV)/dev  ## let ruff put the style right
	@"$(BIN)/ruff" check --fix . ; "$(BIN)/ruff" format .

bench: $(VENV)/dev  ## every benchmark, its rivals beside it
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; "$(BIN)/python" -m "benchmarks.$$(basename $$file .py)" || exit 1; done

COMPILE := "$(BIN)/uv" pip compile --quiet --universal --generate-hashes --no-header --no-annotate --python-version 3.11

lock: $(VENV)/dev  ## pin the newest versions that pyproject.toml allows, the same in every lock
	@$(COMPILE) --upgrade pyproject.toml --group build --group dev --all-extras -o requirements-dev.lock
	@$(COMPILE) -c requirements-dev.lock pyproject.toml --group build --all-extras -o requirements-image.lock
	@$(COMPILE) -c requirements-dev.lock pyproject.toml --group build -o requirements.lock

docs: $(VENV)/dev  ## write the reference pages that are generated
	@"$(BIN)/python" -m engine.edge.settings_doc
	@"$(BIN)/sentinel" schema runbooks > docs/runbook.schema.json

clean:  ## what the other targets made
	rm -rf "$(VENV)" var out build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
