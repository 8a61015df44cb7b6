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

.PHONY: demo test lint lock embedded

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

# Trains the embedded model again (about an hour), from its vocabulary to
# its checkpoint, and puts it in the place of the old one.
EMBEDDED := prompt_tuning/embedded
RUNS := runs/embedded
STEPS := 11000

embedded: $(VENV)/installed
	$(BIN)/python -m prompt_tuning.tasks.small_world.vocabulary \
	  --output $(EMBEDDED)/sentencepiece.model
	$(BIN)/python -m prompt_tuning.train \
	  --gin_file=embedded/span_corruption.gin \
	  --gin.MODEL_DIR="'$(RUNS)/spans'"
	$(BIN)/python -m prompt_tuning.train --gin_file=embedded/quizzes_first.gin \
	  --gin.INITIAL_CHECKPOINT_PATH="'$(RUNS)/spans'" \
	  --gin.MODEL_DIR="'$(RUNS)/quizzes'"
	$(BIN)/python -m prompt_tuning.train --gin_file=embedded/lm_adapt.gin \
	  --gin.INITIAL_CHECKPOINT_PATH="'$(RUNS)/quizzes'" \
	  --gin.MODEL_DIR="'$(RUNS)/adapted'"
	rm -rf $(EMBEDDED)/checkpoint
	$(BIN)/python -m prompt_tuning.export --gin_file=models/embedded.gin \
	  --gin_file=runs/export.gin --gin.EXPORT_STEP=$(STEPS) \
	  --gin.INITIAL_CHECKPOINT_PATH="'$(RUNS)/adapted'" \
	  --gin.EXPORT_FORMAT="'t5x_single_file'" \
	  --gin.EXPORT_DIR="'$(EMBEDDED)/checkpoint'"
	cp $(RUNS)/spans/metrics.jsonl $(EMBEDDED)/span_corruption.jsonl
	cp $(RUNS)/quizzes/metrics.jsonl $(EMBEDDED)/quizzes_first.jsonl
	cp $(RUNS)/adapted/metrics.jsonl $(EMBEDDED)/lm_adaptation.jsonl

# Resolves anew, in an environment of its own.
lock:
	rm -rf build/lock
	$(PYTHON) -m venv build/lock
	build/lock/bin/pip install -e '.[test,dev]'
	mkdir -p requirements
	build/lock/bin/pip freeze --exclude-editable > $(LOCK)
	rm -rf build/lock
