# Every target sets up what it needs; `make help` lists them. No make? See "Without make" in README.md.
# PYTHON=, VENV=, PORT=, ARGS= and AUTOMIXER_STATE= can be given to any target; ARGS goes to the command it runs.
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 3000
DAGSTER_HOME := $(CURDIR)$(if $(AUTOMIXER_POSTGRES_URL),/deploy/postgres)
OMP_NUM_THREADS ?= 1
OMP_WAIT_POLICY ?= PASSIVE
TOKENIZERS_PARALLELISM ?= false
# Absolute, because Dagster's processes run in other folders; only the first word is looked at, as paths may hold spaces.
STATE := $(or $(AUTOMIXER_STATE),.automixer)
override AUTOMIXER_STATE := $(if $(filter /%,$(firstword $(STATE))),$(STATE),$(CURDIR)/$(STATE))
export AUTOMIXER_STATE DAGSTER_HOME OMP_NUM_THREADS OMP_WAIT_POLICY TOKENIZERS_PARALLELISM
REAL_EXPORTS := automixer_assets_tests/export/real
LINEAGE := assets/weight_manifest?view=lineage&lineageScope=upstream&lineageDepth=20

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-exports test-ray test-s3 test-ui check dev bench bench-peers clean

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## create .venv and install the pinned packages (nothing to do when they are there)
	@PYTHON="$(PYTHON)" bash scripts/setup.sh "$(VENV)"

demo: setup ## the whole pipeline on the embedded micro-world; prints the mixture and how to open the UI
	@"$(BIN)/automixer" demo $(ARGS)

test: setup ## the tests; one of them: make test ARGS="-k lake"
	@HF_HUB_OFFLINE=1 "$(BIN)/python" -m pytest -n 2 --dist loadgroup $(ARGS)

# Above the folder given as confcutdir, conftest.py and the warning filters need Dagster, which this environment lacks.
test-exports: ## exports read by the trainers' own libraries; these go into .venv-exports (4 GB)
	@PYTHON="$(PYTHON)" bash scripts/setup-exports.sh .venv-exports
	@HF_HUB_OFFLINE=1 AUTOMIXER_REQUIRE_TRAINERS=1 .venv-exports/bin/python -m pytest -o filterwarnings= \
	--confcutdir=$(REAL_EXPORTS) $(REAL_EXPORTS) $(ARGS)

test-ray: ## scoring on a Ray cluster of several nodes in this machine; Ray goes into .venv-ray
	@PYTHON="$(PYTHON)" bash scripts/setup.sh .venv-ray
	@.venv-ray/bin/python -m pip install --quiet --no-input --disable-pip-version-check -e '.[ray]'
	@OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0 HF_HUB_OFFLINE=1 AUTOMIXER_REQUIRE_RAY=1 .venv-ray/bin/python -m pytest \
	automixer_assets_tests/launch $(ARGS)

test-s3: setup ## a lake in an object store, against a local S3 server; s3fs and moto go into .venv-s3
	@bash scripts/setup-s3.sh .venv-s3 "$(VENV)"
	@HF_HUB_OFFLINE=1 AUTOMIXER_REQUIRE_S3=1 .venv-s3/bin/python -m pytest automixer_assets_tests/s3 $(ARGS)

test-ui: setup ## a day in the UI: make dev, a browser, a snapshot that arrives (some minutes; needs Chromium)
	@AUTOMIXER_TEST_UI=1 HF_HUB_OFFLINE=1 "$(BIN)/python" -m pytest automixer_assets_tests/test_ui.py $(ARGS)

check: setup ## ruff and pyright
	@"$(BIN)/ruff" format --check . && "$(BIN)/ruff" check . && "$(BIN)/pyright"

dev: setup ## the Dagster UI, at the lineage of the weight manifest; another port: make dev PORT=3001
	@"$(BIN)/python" -c 'import socket; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); \
	s.bind(("127.0.0.1", $(PORT)))' 2>/dev/null || \
	{ echo "dev: port $(PORT) is taken: name a free one, e.g. make dev PORT=3001" >&2; exit 1; }
	@"$(BIN)/automixer" sync
	@echo "In ten seconds, the lineage of the weight manifest (Ctrl-C ends it): http://localhost:$(PORT)/$(LINEAGE)"
	@exec "$(BIN)/dagster" dev -w workspace.yaml -h 127.0.0.1 -p $(PORT) $(ARGS)

bench: setup ## the benchmarks; see benchmarks/README.md
	@"$(BIN)/python" -m benchmarks $(ARGS)

bench-peers: ## other attribution libraries beside ours; they go into .venv-peers
	@PYTHON="$(PYTHON)" bash benchmarks/peers/setup.sh .venv-peers
	@HF_HUB_OFFLINE=1 .venv-peers/bin/python -m benchmarks.peers $(ARGS)

clean: ## delete .venv, .venv-peers, .venv-exports, .venv-ray, .venv-s3 and everything materialised (state outside this folder: only with FORCE=1)
	@repo=$$(pwd -P); state=$$(cd "$$AUTOMIXER_STATE" 2>/dev/null && pwd -P); \
	if [ -n "$$state" ]; then \
	  case "$$repo/" in "$${state%/}"/*) \
	    echo "clean: AUTOMIXER_STATE=$$state holds this checkout itself: delete by hand what is not needed" >&2; exit 1 ;; esac; \
	  case "$$state/$(FORCE)" in "$$repo"/*|*/1) ;; *) \
	    echo "clean: AUTOMIXER_STATE=$$state is outside this checkout: to delete it all the same, make clean FORCE=1" >&2; \
	    exit 1 ;; esac; \
	  rm -rf "$$state" "$$AUTOMIXER_STATE"; \
	fi; \
	rm -rf "$(VENV)" .venv-peers .venv-exports .venv-ray .venv-s3
