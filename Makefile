# The one definition of each command; hooks and CI call these.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 4

ENGINE ?= file
SECONDS ?= 60
WORKERS ?= 6
SEED ?=
SEEDS ?= 2000

BENCH := .venv-bench

.PHONY: run test chaos soak explore simulate bench check format clean

run: $(READY)  ## serve the demonstration: four workers on 127.0.0.1:8000
	$(BIN)/python run.py

test: $(READY)  ## run every test; what the machine lacks is skipped, and the reason told
	@$(BIN)/python -m compileall -q election app tests run.py  # once, not in each of a thousand processes
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

# SECONDS, WORKERS, ENGINE (file, postgres, redis, redis+postgres), SEED (another one each time unless given)
chaos: $(READY)  ## hurt a real pool at random and judge it
	$(BIN)/python -m tests.chaos --engine $(ENGINE) --seconds $(SECONDS) --workers $(WORKERS) $(if $(SEED),--seed $(SEED))

soak:  ## the same for ten minutes
	$(MAKE) chaos SECONDS=600

explore: $(READY)  ## search every interleaving of a model of the file engine, further than the tests: minutes
	$(BIN)/python -m tests.model --full

simulate: $(READY)  ## pools on a virtual clock, with faults from so many seeds (SEEDS)
	$(BIN)/python -m tests.simulate --seeds $(SEEDS)

bench: $(BENCH)/.ready  ## measure all of it beside the peers, which get an environment of their own: about 25 minutes
	$(BENCH)/bin/python -m bench

bench-%: $(BENCH)/.ready
	$(BENCH)/bin/python -m bench $*

check: $(READY)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy election app run.py tests/typing_check.py

format: $(READY)  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and what the tools left
	rm -rf $(VENV) $(BENCH) .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "election needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(BENCH)/.ready: pyproject.toml constraints.txt bench/requirements.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[app,cli]' -r bench/requirements.txt
	@touch $@
