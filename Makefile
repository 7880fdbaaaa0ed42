# `make help` lists what there is to do. Everything is installed into .venv, nothing outside of it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait for processes and disks now and then: one more of them than there are cores.
TESTS_AT_ONCE = $(shell $(PYTHON) -c "import os; print((os.cpu_count() or 1) + 1)")
# Tests start many processes, and each would compile what it imports where Python may not keep that.
COMPILED := --quiet --compile-bytecode
AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)

.DEFAULT_GOAL := help
.PHONY: help install demo dev test test-others test-ui test-lowest browser pictures docs docs-serve lint format bench clean

help:  ## List the commands.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

install: $(VENV)/installed  ## Create the environment.

$(VENV)/installed: pyproject.toml
	@echo "Installing what is needed into $(VENV). The first time this may take some minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "uv>=0.7"
	$(BIN)/uv pip install $(COMPILED) --python $(VENV) --editable ".[example]" --group dev --group readers
	@touch $@

# One Dagster for both: `make dev` shows what `make demo` did.
demo dev: export DAGSTER_HOME := $(or $(DAGSTER_HOME),$(CURDIR)/example_project/data/dagster)

demo: install  ## Load the example's assets through Dagster and search them.
	@mkdir -p "$$DAGSTER_HOME" && touch "$$DAGSTER_HOME/dagster.yaml"
	@$(BIN)/python -m example_project.demo
	@echo "Next: 'make dev' shows these runs in Dagster. docs/tutorial.md loads data of your own."

dev: install  ## Open Dagster's pages with the example, on http://localhost:3000.
	@mkdir -p "$$DAGSTER_HOME" && touch "$$DAGSTER_HOME/dagster.yaml"
	$(BIN)/dagster dev

# Side by side: the tests of the UI share one Dagster, and wait for it most of the time.
test: install  ## Run the tests; those of the UI are skipped without a browser.
	@$(MAKE) --no-print-directory --jobs=2 test-others test-ui

# Where Python may not keep what it compiles, each process of the tests would compile our code anew.
test-others test-ui: export PYTHONDONTWRITEBYTECODE :=

test-others: install
	$(BIN)/python -m pytest -n $(TESTS_AT_ONCE) --ignore tests/browser

test-ui: install
	$(BIN)/python -m pytest tests/browser

# All on a path, and without the tests of what uses no other package much: the UI, crashes, faults of
# servers and services.
OWN_WORK := browser test_crashes.py test_faults.py \
	test_qdrant_server.py test_readers.py test_security.py embedding/test_remote.py \
	embedding/test_service_loads.py embedding/test_service_security.py

test-lowest:  ## Run tests with the oldest versions that pyproject.toml allows.
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet "uv>=0.7"
	$(VENV)-lowest/bin/uv pip install $(COMPILED) --python $(VENV)-lowest --resolution lowest-direct \
		--editable ".[example]" --group dev
	TEST_TARGETS=path $(VENV)-lowest/bin/python -m pytest -n $(TESTS_AT_ONCE) $(OWN_WORK:%=--ignore tests/%)

browser:  ## Install the browser for the tests of the UI: Debian's package.
	command -v chromium >/dev/null || { $(AS_ROOT) apt-get update -qq && \
		$(AS_ROOT) apt-get install -qq -y --no-install-recommends chromium; }

pictures: install browser  ## Make the README's pictures anew.
	$(BIN)/python -m pytest tests/browser
	$(BIN)/python -m tests.browser.pictures

docs: $(VENV)-docs/installed  ## Build the documentation into build/docs; a warning is an error.
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs build --strict

docs-serve: $(VENV)-docs/installed  ## Show the documentation on http://localhost:8000, as it is edited.
	NO_MKDOCS_2_WARNING=1 $(VENV)-docs/bin/mkdocs serve

$(VENV)-docs/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet "uv>=0.7"
	$(VENV)-docs/bin/uv pip install --quiet --python $(VENV)-docs --group docs
	@touch $@

lint: install  ## Check style, types, and which room imports from which.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: install  ## Put the code into the project's style.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: install  ## Time loads side by side with what they could be and what others do.
	$(BIN)/python -m benchmarks

clean:  ## Remove the environments and the example's data.
	rm -rf $(VENV) $(VENV)-docs $(VENV)-lowest build example_project/data
