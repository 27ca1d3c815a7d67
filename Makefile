# `make run` starts the daemon, `make test` runs the whole suite; both make their virtual environment first.
# `make chaos` sends events for an hour and a half while everything breaks that can: docs/chaos.md; `make chaos SEED=7` in other ways.
# `make perf` measures everything and writes perf/results/report.md; `make perf ONLY=S3 RUNS=3 PEER=fluent-bit` a part of it.
PYTHON ?= $(firstword $(foreach p,python3 python3.13 python3.12 python3.11,$(if $(shell $(p) -c 'import sys; 3 if sys.version_info >= (3, 11) else 1/0' 2>/dev/null && echo ok),$(p))) no-python-3.11-found)
BIN := .venv/bin

.PHONY: run test docs perf guard chaos clean

run: .venv/run
	$(BIN)/mcp-ingest run

test: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	# a minute less than one after the other
	@$(BIN)/mypy & types=$$!; $(BIN)/pytest -m "not long"; tests=$$?; \
	wait $$types || { echo "mypy failed: what it said stands above the tests"; exit 1; }; exit $$tests

docs: .venv/dev
	$(BIN)/python docs/generate.py

perf: .venv/perf
	$(BIN)/python -m perf $(if $(ONLY),--only $(ONLY)) $(if $(RUNS),--runs $(RUNS)) $(if $(PEER),--peer $(PEER)) $(if $(SHORT),--short)

guard: .venv/dev
	$(BIN)/python -m perf.guard

chaos: .venv/dev
	$(BIN)/python -m tests.chaos --seconds 900 $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.chaos --seconds 600 $(if $(SEED),--seed $(SEED)) --output store
	$(BIN)/python -m tests.chaos --seconds 600 $(if $(SEED),--seed $(SEED)) --workers 2
	$(BIN)/python -m tests.chaos --faults kill --kills 100 $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.chaos --faults kill --kills 100 $(if $(SEED),--seed $(SEED)) --output store
	$(BIN)/python -m tests.chaos --faults kill,worker_killed,supervisor_killed --rounds 100 $(if $(SEED),--seed $(SEED)) --workers 2
	$(BIN)/python -m tests.chaos --faults refused_items --rounds 1 --lasting 60 $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m tests.chaos.backlog
	$(BIN)/python -m tests.chaos.dead_output
	$(BIN)/python -m tests.chaos.reloads
	$(BIN)/python -m tests.chaos.damage $(if $(SEED),--seed $(SEED))

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache

.venv/bin/python:
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11)' || { echo "mcp-ingest needs Python 3.11 or newer: install it, or name it by make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv .venv

.venv/run: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/dev: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev,perf]'
	@touch $@ .venv/run

.venv/perf: .venv/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[perf]'
	@touch $@ .venv/run
