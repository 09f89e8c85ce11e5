# Two commands for a fresh machine; each makes its own virtual environment when it is missing or old.
#   make train                  the main job; ARGS="market=replay ..." adds Hydra overrides
#   make test                   every check and test
PYTHON ?= python3
VENV ?= .venv
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK = 1
export PIP_NO_INPUT = 1

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: train test
.DEFAULT_GOAL := train

train: $(INSTALLED)
	$(BIN)/python train.py $(ARGS)

test: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadgroup

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --quiet --progress-bar off --editable '.[dev]' --constraint constraints.txt
	touch $@
