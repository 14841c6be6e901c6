# skelfew: `make help` lists the targets. Every target sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
DATASET ?= demo
ARGS ?=
PIP_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo prepare extract-teacher test test-tables lint format docs bench clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-18s %s\n", $$1, $$2}'
	@echo
	@echo "  DATASET=name  data set for prepare and extract-teacher (default: demo)"
	@echo "  ARGS='...'    further flags for the command, e.g. ARGS='--raw /data/nw-ucla.zip'"
	@echo "  PIP_ARGS='...'  further flags for pip, e.g. the address of PyTorch's CPU builds (README.md)"

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "skelfew needs Python 3.11 or newer; run make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

# In a variable, because a comma would end the argument of a call.
RUN_EXTRAS := prepare,extract

# The stamps record what is installed: everything to run, and everything to test, which includes the
# former, so that `make test` installs once.
.venv/.run: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python tools/install.py $(RUN_EXTRAS) $(PIP_ARGS)
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python tools/install.py dev $(PIP_ARGS)
	@touch .venv/.run $@

setup: .venv/.run ## Install skelfew with teacher and decoders into .venv

demo: .venv/.run ## The whole path on a small world made on the spot, four minutes
	@$(BIN)/skelfew demo $(ARGS)

prepare: .venv/.run ## Raw recordings to manifest and skeletons: DATASET=nw-ucla ARGS='--raw PATH'
	$(BIN)/skelfew-prepare $(DATASET) $(ARGS)

extract-teacher: .venv/.run ## Run the teacher once over the videos: DATASET=pku ARGS='--weights PATH'
	$(BIN)/skelfew-extract $(DATASET) $(ARGS)

test: .venv/.dev lint ## Run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

test-tables: .venv/.dev ## Run the rows of every table, hardly trained, in build/tables: ARGS='IX XII'
	@PATH="$(CURDIR)/$(BIN):$$PATH" OMP_NUM_THREADS=1 $(BIN)/python tools/run_tables.py build/tables $(ARGS)

lint: .venv/.dev ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/.dev ## Fix style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.dev ## Build the site of docs/ into site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Started by hand: faults and fuzz take long, reject needs a run, gpu needs a graphics card.
BY_HAND = faults fuzz reject gpu
BENCHMARKS = $(filter-out $(BY_HAND:%=benchmarks/%.py),$(sort $(wildcard benchmarks/*.py)))

bench: .venv/.dev ## Measure what benchmarks/ claims, into docs/benchmarks.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python benchmarks/support/collect.py $(BENCHMARKS)

clean: ## Remove .venv and tool caches; data, caches and runs stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist site
