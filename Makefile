# The commands to live by. Each prepares .venv by itself, the first time and whenever pyproject.toml changes.

VENV   := .venv
BIN    := $(VENV)/bin
# Uncompiled: a third faster, and Python compiles what it imports.
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check install --no-compile
# The first interpreter on the path that is new enough; `make PYTHON=/path/to/python3.12 ...` chooses another.
RECENT  = import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python; do \
            "$$python" -c '$(RECENT)' >/dev/null 2>&1 && echo "$$python" && break; done)
# Two processes at most: enough for the tests, and a small machine stays usable beside them.
TWO    := --numprocesses 2 --dist loadgroup
SERVED := $(wildcard tests/contract tests/examples tests/walk tests/fuzz tests/simulation tests/live tests/chaos)

.DEFAULT_GOAL := help
.PHONY: help demo up check test bench clean

help:  ## say what there is
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

demo: $(VENV)/.serving  ## see a real model answer real images, from zero workers and back to zero
	@$(BIN)/python examples/demo.py

up: $(VENV)/.serving  ## start everything on this machine; options in ARGS, as in make up ARGS='--port 9000'
	@$(BIN)/penstock up $(ARGS)

check: $(VENV)/.developing  ## format, lint, types, layers and the fast tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest $(TWO) $(wildcard tests/unit tests/architecture tests/typing)

test: check  ## everything: check, then all that starts servers and kills them
	$(if $(SERVED),$(BIN)/pytest $(TWO) -m 'not chaos' $(SERVED))
	$(if $(SERVED),$(BIN)/pytest -m chaos $(SERVED))

bench: $(VENV)/.measuring  ## measure, beside a bare server and a known queue, and print one table
	@$(BIN)/python -m bench $(ARGS)

clean:  ## forget .venv and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage build dist
	find . -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Penstock needs Python 3.11 or newer; install it, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c '$(RECENT)' || { echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "$(PYTHON) can't make a virtual environment (Debian: apt-get install python3-venv)" >&2; exit 1; }

# What serves and shows the examples: little, so that a newcomer need not wait for the tools.
$(VENV)/.serving: pyproject.toml | $(BIN)/python
	@test -e $(VENV)/.developing || echo "preparing $(VENV) (once)" >&2
	@$(PIP) --editable '.[server,examples]'
	@touch $@

$(VENV)/.developing: pyproject.toml | $(BIN)/python
	@echo "preparing $(VENV) with the development tools (once)" >&2
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.serving

$(VENV)/.measuring: pyproject.toml | $(BIN)/python
	@echo "preparing $(VENV) with what the measurements compare with (once)" >&2
	@$(PIP) --editable '.[server,bench]'
	@touch $@
