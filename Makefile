# Every target sets up what it needs; `make help` lists them. No make? See "Without make" in README.md.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export AUTOMIXER_STATE ?= $(CURDIR)/.automixer
export DAGSTER_HOME ?= $(CURDIR)
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false
PORT ?= 3000

.DEFAULT_GOAL := help
.PHONY: help setup demo test check dev bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: ## create .venv and install the pinned packages (nothing to do when they are there)
	@PYTHON="$(PYTHON)" bash scripts/setup.sh $(VENV)

demo: setup ## the whole pipeline on the embedded micro-world; prints the mixture and how to open the UI
	@$(BIN)/automixer demo

test: setup ## the tests
	@HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadgroup

check: setup ## ruff and pyright
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/pyright

dev: setup ## the Dagster UI on http://localhost:3000, at the lineage of the weight manifest
	@$(BIN)/automixer sync
	@echo "Dagster UI: http://localhost:$(PORT)/asset-groups  (lineage: http://localhost:$(PORT)/assets/weight_manifest?view=lineage&lineageScope=upstream)"
	@$(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p $(PORT)

bench: setup ## the benchmarks; see benchmarks/README.md
	@$(BIN)/python -m benchmarks

clean: ## delete .venv and everything materialised
	rm -rf $(VENV) $(AUTOMIXER_STATE)
