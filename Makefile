# The verbs of this repository; `make help` lists them.
# `make setup` is incremental: every target that needs `.venv` or generated code may depend on it and costs nothing when they are there.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
# The generators live in an environment of their own (hatch_build.py says why).
BUILD_ENV := build/env
PIP_FLAGS := --quiet --disable-pip-version-check --require-virtualenv
PROTO_SOURCES := $(shell find protos -name '*.proto' -o -name envoy.txt)
PACKAGES := mesh services tests hatch_build.py

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: build/setup.stamp build/proto.stamp  ## make .venv (from the lock, with hashes) and the generated code

build/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { \
	  echo "make setup: $(PYTHON) is $$($(PYTHON) --version 2>&1); Proa needs Python 3.11, 3.12 or 3.13. Name one: make setup PYTHON=python3.13" >&2; exit 1; }
	@mkdir -p build && touch $@

$(BUILD_ENV)/ready: requirements/build.txt | build/python.stamp
	$(PYTHON) -m venv $(BUILD_ENV)
	$(BUILD_ENV)/bin/python -m pip install $(PIP_FLAGS) --require-hashes -r requirements/build.txt
	@touch $@

$(VENV)/ready: requirements/dev.txt | build/python.stamp
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) --require-hashes -r requirements/dev.txt
	@touch $@

# The editable wheel is built by the locked generators, so that nothing without a hash is ever downloaded.
build/setup.stamp: pyproject.toml hatch_build.py $(BUILD_ENV)/ready $(VENV)/ready
	$(BUILD_ENV)/bin/python -m hatchling build --target wheel:editable --directory build/editable 2>/dev/null
	$(BIN)/python -m pip install $(PIP_FLAGS) --no-deps --no-index --force-reinstall build/editable/proa-*.whl
	@rm -rf build/editable && touch $@

.PHONY: proto
proto: build/proto.stamp  ## generate the code of all protos (Envoy's, Proa's, the reference systems')

build/proto.stamp: $(PROTO_SOURCES) hatch_build.py $(BUILD_ENV)/ready
	$(BUILD_ENV)/bin/python hatch_build.py
	@touch $@
