# skelfew: `make help` lists what there is. Every target sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
DATASET ?= demo
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo prepare extract-teacher test test-tables lint format docs bench clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-18s %s\n", $$1, $$2}'
	@echo
	@echo "  DATASET=name  data set for prepare and extract-teacher (default: demo)"
	@echo "  ARGS='...'    further flags for the command, e.g. ARGS='--raw /data/nw-ucla.zip'"

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "skelfew needs Python 3.11 or newer; say make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

# In a variable, because a comma would end the argument of a call.
RUN_EXTRAS := prepare,extract

# pip compiles what it installs on one core; the second line does it on all. Files of packages that
# are no Python (templates) fail to compile, as they do in pip.
define install
$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '$(1)'
@$(BIN)/python -m compileall -qq -j 0 .venv/lib >/dev/null 2>&1 || true
endef

# The stamps stand for what is installed: everything to run, and everything to test, which holds
# the former, so that `make test` installs once.
.venv/.run: .venv/bin/python pyproject.toml
	$(call install,.[$(RUN_EXTRAS)])
	@touch $@

.venv/.dev: .venv/bin/python pyproject.toml
	$(call install,.[dev])
	@touch .venv/.run $@

setup: .venv/.run ## Install skelfew with teacher and decoders into .venv

demo: .venv/.run ## Few-shot learning from start to end on a small world made on the fly
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh tools/demo.sh

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

format: .venv/.dev ## Mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.dev ## Build the site of docs/ into site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Counting faults and inputs takes long, reject.py wants a run, gpu.py a card: started by hand.
BY_HAND = faults fuzz reject gpu
BENCHMARKS = $(filter-out $(BY_HAND:%=benchmarks/%.py),$(sort $(wildcard benchmarks/*.py)))

bench: .venv/.dev ## Measure what benchmarks/ claims, into docs/benchmarks.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python benchmarks/support/collect.py $(BENCHMARKS)

clean: ## Remove .venv and tool caches; data, caches and runs stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist site
