# `make test` and `make demo` need nothing but Python 3.11 with venv; all else goes into .venv.
# Where packages come from is pip's own configuration.

PYTHON ?= python3
# A file stays in one process, where its models are made once; tests that wait for processes of their own leave
# room for one worker more than there are cores.
PYTEST_FLAGS ?= -n $(shell expr $$(nproc) + 1) --dist loadfile
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Every process of the tests, and each that a test starts, reads what one of them compiled.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help test whole fast sweep lint types demo bench engines wheel clean

help:
	@echo "make test    lint, types and all tests"
	@echo "make fast    the tests that are not slow"
	@echo "make sweep   all cases and examples of the tests that otherwise run on a part of them"
	@echo "make lint    ruff: rules and format"
	@echo "make types   pyright, strict"
	@echo "make demo    grow two real models, prove them unchanged, train on"
	@echo "make bench   the benchmarks"
	@echo "make engines grown models in other engines, each in an environment of its own"
	@echo "make wheel   build the wheel into dist/, and try it in an empty environment"
	@echo "make clean   remove .venv and every cache"

# Types are checked beside the tests: pyright takes a minute of one core.
test: lint
	@$(MAKE) -j2 types whole

whole: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest $(PYTEST_FLAGS)

fast: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m "not slow" $(PYTEST_FLAGS)

sweep: $(VENV)/.dev
	SWEEP=all HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m "sweep or slow" $(PYTEST_FLAGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/pyright --pythonpath $(BIN)/python

demo: $(VENV)/.plots
	$(BIN)/isogrow demo

bench: $(VENV)/.plots
	@set -- benchmarks/*.py; test -e "$$1" || { echo "benchmarks/ holds no script" >&2; exit 1; }; \
	for script; do echo "$$script"; $(BIN)/python "$$script" || exit 1; done
	$(BIN)/python -m benchmarks.checkpoint --rows "$$(mktemp)"
	$(BIN)/python -m benchmarks.training small

# A part: make engines ENGINES="openvino --family llama --axis ffn"
engines: $(VENV)/.dev
	$(BIN)/python -m benchmarks.engines.environments $(ENGINES)

wheel:
	PYTHON=$(PYTHON) .ci/wheel

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Each stamp is written only after its step succeeded, so an interrupted step is done again.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "$(PYTHON) is missing or older than 3.11: try make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "$(PYTHON) lacks venv: on Debian, apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# torch goes first and alone: what comes after finds it there and pulls no other build.
$(VENV)/.torch: $(VENV)/.made constraints.txt
	$(PIP) install torch -c constraints.txt
	@touch $@

$(VENV)/.plots: $(VENV)/.torch pyproject.toml
	$(PIP) install -e '.[plots]' -c constraints.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) install -e '.[dev]' -c constraints.txt
	@touch $@
