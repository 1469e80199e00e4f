# Two commands on a fresh machine with python3 (3.11+) and make: `make grid` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# Compiled modules are kept: without them every start costs twenty seconds more.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help grid smoke test test-all check format benchmark notebook clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

grid: $(INSTALLED) ## train the comparison grid, print its table, write results/comparison
	@$(BIN)/temper-train experiment=comparison

smoke: $(INSTALLED) ## a 2x2 grid of seconds
	@$(BIN)/temper-train experiment=smoke

test: $(INSTALLED) ## the quick tests, a few minutes
	@$(BIN)/python -m pytest -n auto -m "not slow"

test-all: $(INSTALLED) ## all tests; those whose part is missing here skip and say so
	@$(BIN)/python -m pytest -n auto

check: $(INSTALLED) ## lint, format and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports --no-logo && $(BIN)/mypy

format: $(INSTALLED) ## put code into shape
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

benchmark: $(INSTALLED) ## speed on this CPU, in under ten minutes: docs/performance.md
	@$(BIN)/python scripts/benchmarks/benchmark_step.py
	@$(BIN)/python scripts/benchmarks/benchmark_attacks.py --quick
	@$(BIN)/python scripts/benchmarks/benchmark_training.py --device cpu
	@$(BIN)/python scripts/benchmarks/benchmark_autoattack.py --quick
	@$(BIN)/python scripts/benchmarks/benchmark_penalties.py --quick
	@$(BIN)/python scripts/benchmarks/benchmark_side_by_side.py --device cpu --quick
	@$(BIN)/python scripts/benchmarks/benchmark_scaling.py --quick

notebook: $(INSTALLED) ## run the notebooks; with their figures they lie in results/notebooks
	@mkdir -p results/notebooks
	@$(BIN)/jupyter-execute --output='../results/notebooks/{notebook_name}' notebooks/*.ipynb

# uv reads the override of torchattacks' pinned requests from pyproject.toml, inside this folder only.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "python 3.11 or later is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev]'
	@touch $@

clean: ## remove the environment; results stay
	rm -rf .venv
