# The one definition of each command; hooks and CI call these.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 6

ENGINE ?= file
SECONDS ?= 60
WORKERS ?= 6
SEED ?=
SEEDS ?= 2000
UPGRADE ?=

BENCH := .venv-bench

# One environment, which grows: to run, to test, to develop.
TO_RUN := $(VENV)/.to-run
TO_TEST := $(VENV)/.to-test
TO_DEVELOP := $(VENV)/.to-develop
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The pip that comes with Python, unpacked: three seconds less than ensurepip, which installs and compiles it.
UNPACK_PIP := import ensurepip, pathlib, sysconfig, zipfile; \
  folders = filter(None, (sysconfig.get_config_var("WHEEL_PKG_DIR"), pathlib.Path(ensurepip.__file__).parent / "_bundled")); \
  wheel = next(wheel for folder in folders for wheel in pathlib.Path(folder).glob("pip-*.whl")); \
  zipfile.ZipFile(wheel).extractall(sysconfig.get_path("purelib"))
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help run test test-all test-matrix test-lowest chaos soak explore simulate bench check format dist constraints clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: $(TO_RUN)  ## serve the demonstration: four workers on 127.0.0.1:8000
	$(BIN)/python run.py

test: $(TO_TEST)  ## run the tests that need nothing but Python and make
	@$(BIN)/python -m compileall -q election app tests run.py  # once, not in each of a thousand processes
	$(PYTEST) -m "not extended"

test-all: $(TO_DEVELOP)  ## run every test; skips what needs a tool that this machine lacks, and says so
	@$(BIN)/python -m compileall -q election app tests run.py
	$(PYTEST)

test-matrix: $(TO_DEVELOP)  ## run "make test" on each Python from 3.11 to 3.14 here, and with the lowest versions allowed
	$(BIN)/python -m tests.matrix

test-lowest: $(VENV)/.lowest
	@$(BIN)/python -m compileall -q election app tests run.py
	$(PYTEST) -m "not extended" --deselect tests/docs/test_repository.py::test_everything_that_make_installs_is_pinned

# SECONDS, WORKERS, ENGINE (file, postgres, redis, redis+postgres), SEED (another one each time unless given)
chaos: $(TO_DEVELOP)  ## injure a real pool at random and judge its history
	$(BIN)/python -m tests.chaos --engine $(ENGINE) --seconds $(SECONDS) --workers $(WORKERS) $(if $(SEED),--seed $(SEED))

soak:  ## the same for ten minutes
	$(MAKE) chaos SECONDS=600

explore: $(TO_TEST)  ## search every interleaving of a model of the file engine, further than the tests: minutes
	$(BIN)/python -m tests.model --full

simulate: $(TO_TEST)  ## run pools on a virtual clock, with faults from so many seeds (SEEDS)
	$(BIN)/python -m tests.simulate --seeds $(SEEDS)

bench: $(BENCH)/.ready  ## measure everything beside the peers, which get an environment of their own: about 45 minutes
	$(BENCH)/bin/python -m bench

bench-%: $(BENCH)/.ready
	$(BENCH)/bin/python -m bench $*

check: $(TO_DEVELOP)  ## lint, check the format and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy election app run.py tests/typing_check.py

format: $(TO_DEVELOP)  ## put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

dist: $(TO_DEVELOP)  ## build the wheel and the source distribution, and check both
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl

constraints: $(TO_DEVELOP)  ## pin what pyproject.toml needs for every Python; UPGRADE=--upgrade takes newer versions
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --no-annotate --no-header $(UPGRADE) pyproject.toml --output-file constraints.txt >$(VENV)/constraints.log
	sed -i '1i # The versions that the tests were run with, for every Python from 3.11: written by make constraints.' constraints.txt

clean:  ## remove the environments and what the tools left
	rm -rf $(VENV) .venv-* dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "election needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv --without-pip $(VENV) || { rm -rf $(VENV); exit 1; }
	@$(BIN)/python -c '$(UNPACK_PIP)' 2>/dev/null || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(TO_RUN): $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) --no-compile -e '.[app,cli]'
	@touch $@

$(TO_TEST): $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[test]'
	@touch $@ $(TO_RUN)

$(TO_DEVELOP): $(VENV)/bin/python pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	@touch $@ $(TO_TEST) $(TO_RUN)

# The lowest version of each direct requirement, instead of constraints.txt; uv resolves it, pip cannot. Starlette of that
# time imports a name that anyio 4.15 deprecates.
$(VENV)/.lowest: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --resolution lowest-direct -e '.[test]' 'anyio>=4,<4.15'
	@touch $@

$(BENCH)/.ready: pyproject.toml constraints.txt bench/requirements.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[app,cli]' -r bench/requirements.txt
	@touch $@
