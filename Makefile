# Two commands on a fresh machine with python3 (3.11+) and make: `make grid` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

# Keep compiled modules: without them every start takes twenty seconds longer.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help grid smoke test test-all check format benchmark notebook clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

grid: $(INSTALLED) ## train the comparison grid, print its table, write results/comparison
	@$(BIN)/temper-train experiment=comparison

smoke: $(INSTALLED) ## train a 2x2 grid in under a minute
	@$(BIN)/temper-train experiment=smoke

test: $(INSTALLED) ## run the fast tests, a few minutes
	@$(BIN)/python -m pytest -n auto -m "not slow"

test-all: $(INSTALLED) ## run all tests; skip those with missing requirements
	@$(BIN)/python -m pytest -n auto

check: $(INSTALLED) ## check lint, format, import order and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/codespell src tests scripts conf docs *.md && $(BIN)/lint-imports --no-logo && $(BIN)/mypy

format: $(INSTALLED) ## format the code and apply automatic fixes
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

benchmark: $(INSTALLED) ## measure the speed on this CPU in under ten minutes (docs/performance.md)
	@$(BIN)/python scripts/benchmarks/benchmark_step.py
	@$(BIN)/python scripts/benchmarks/benchmark_attacks.py --quick
	@$(BIN)/python scripts/benchmarks/benchmark_training.py --device cpu
	@$(BIN)/python scripts/benchmarks/benchmark_autoattack.py --quick
	@$(BIN)/python scripts/benchmarks/benchmark_penalties.py --quick
	@$(BIN)/python scripts/benchmarks/benchmark_side_by_side.py --device cpu --quick
	@$(BIN)/python scripts/benchmarks/benchmark_scaling.py --quick

notebook: $(INSTALLED) ## run the notebooks and save them with figures in results/notebooks
	@mkdir -p results/notebooks
	@$(BIN)/jupyter-execute --output='../results/notebooks/{notebook_name}' notebooks/*.ipynb

# uv reads the override of the requests version that torchattacks pins from pyproject.toml, in this folder only.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is required, this is " + sys.version)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev]'
	@touch $@

clean: ## remove the environment, keep the results
	rm -rf .venv
