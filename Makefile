# Two commands to begin with, `make demo` and `make test`; README.md shows the
# plain commands they run. PYTHON=python3.12 takes another interpreter.
PYTHON ?= python3
VENV ?= .venv

BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d%d" % sys.version_info[:2])')
LOCK := requirements/lock-py$(VERSION).txt
# A Python without a lock file takes the newest versions that pyproject.toml
# allows.
CONSTRAINTS := $(addprefix -c ,$(wildcard $(LOCK)))

.PHONY: demo test lint lock

demo: $(VENV)/installed
	$(BIN)/python -m prompt_tuning.demo

test: $(VENV)/installed-test
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# The stamps are remade when what is to be installed has changed.
$(VENV)/installed: pyproject.toml $(wildcard $(LOCK)) | $(BIN)/python
	$(BIN)/pip install $(CONSTRAINTS) -e .
	touch $@

$(VENV)/installed-%: pyproject.toml $(wildcard $(LOCK)) | $(BIN)/python
	$(BIN)/pip install $(CONSTRAINTS) -e '.[$*]'
	touch $@

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# Resolves anew, in an environment of its own.
lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install -e '.[test,dev]'
	mkdir -p requirements
	build/lock/bin/pip freeze --exclude-editable > $(LOCK)
	rm -rf build/lock
