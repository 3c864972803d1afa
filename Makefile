# The two commands a newcomer needs: `make demo` and `make test`. Both need only Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
# awswrangler declares an older pyarrow than ours and runs unmodified with it: a test peer, installed without its pins.
PEERS := awswrangler==3.17.1
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export UV_CONSTRAINT := $(CURDIR)/constraints.txt
# Where it is set, as in many containers, each of the hundreds of processes that tests start compiles all modules anew.
unexport PYTHONDONTWRITEBYTECODE
UV := $(shell command -v uv 2>/dev/null)
ifdef UV
  CREATE_VENV = $(UV) venv -q --seed --allow-existing --python $(PYTHON) $(VENV)
  INSTALL = $(UV) pip install -q --python $(BIN)/python
else
  CREATE_VENV = $(PYTHON) -m venv $(VENV)
  INSTALL = $(BIN)/python -m pip install -q
endif

.PHONY: help demo test test-aws lint bench soak local-aws clean
.DEFAULT_GOAL := help

help: ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/demo.stamp ## build the demo tables, serve them, show an example (ARGS=--once to stop after it)
	@$(BIN)/athena-flight demo $(ARGS)

test: $(VENV)/dev.stamp ## run the tests, but those on the local AWS and the long ones (ARGS="-k name" to choose)
	@$(BIN)/python -m pytest -n 3 --dist worksteal -m "not soak and not aws" $(ARGS)

test-aws: $(VENV)/dev.stamp ## run the tests of the Athena engine, on a local S3, Glue and Athena
	@$(BIN)/python -m pytest -n 4 --dist loadfile -m "aws and not soak" $(ARGS)

lint: $(VENV)/dev.stamp ## style, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(VENV)/dev.stamp ## measure; writes nothing but what it prints
	@$(BIN)/python -m tests.bench $(ARGS)

soak: $(VENV)/dev.stamp ## the long tests: large results, fault injection, load
	@$(BIN)/python -m pytest -m soak $(ARGS)

local-aws: $(VENV)/dev.stamp ## start a local S3, Glue and Athena with the demo tables, until Ctrl-C
	@$(BIN)/python -m tests.fakes.athena --moto-port 5560 --athena-port 5561 --load tests/fakes/demo_tables.py

clean: ## remove what the targets above made
	rm -rf $(VENV) .demo .local-aws .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/demo.stamp: pyproject.toml constraints.txt clients/python/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "athena-flight needs Python 3.11 or newer; say make PYTHON=python3.11")'
	@$(CREATE_VENV)
	@echo "installing into $(VENV) ..."
	@$(INSTALL) -e '.[demo,plot]' -e clients/python
	@touch $@

$(VENV)/dev.stamp: $(VENV)/demo.stamp
	@$(INSTALL) -e '.[demo,plot,otlp,dev]'
	@$(INSTALL) --no-deps $(PEERS)
	@touch $@
