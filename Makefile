# The verbs of this repository; `make help` lists them.
# `make setup` is incremental: targets that need .venv or generated code depend on it, and pay nothing when all is there.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3

VENV := .venv
BIN := $(VENV)/bin
# The generators live in an environment of their own (hatch_build.py says why).
BUILD_ENV := build/env
PIP := -m pip --quiet --disable-pip-version-check --require-virtualenv
UV := build/uv/bin/uv
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock"
BUF := build/node/node_modules/.bin/buf
BUF_VERSION := 1.75.0
PROTO_SOURCES := $(shell find protos -name '*.proto' -o -name envoy.txt)

# Where .ci/run puts grpcurl; tests look for programs on PATH.
export PATH := $(CURDIR)/build/bin:$(PATH)

.PHONY: help
help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: build/setup.stamp build/proto.stamp  ## make .venv (from the lock, with hashes) and the generated code

build/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || { \
	  found=$$($(PYTHON) --version 2>/dev/null) || found="not there"; \
	  echo "make setup: $(PYTHON) is $$found. Proa needs Python 3.11, 3.12 or 3.13: make setup PYTHON=python3.13" >&2; \
	  exit 1; }
	@mkdir -p build && touch $@

$(BUILD_ENV)/ready: requirements/build.txt | build/python.stamp
	$(PYTHON) -m venv $(BUILD_ENV)
	$(BUILD_ENV)/bin/python $(PIP) install --require-hashes -r $<
	@touch $@

$(VENV)/ready: requirements/dev.txt | build/python.stamp
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(PIP) install --require-hashes -r $<
	@touch $@

# The editable wheel is built by the locked generators, so that nothing without a hash is ever downloaded.
build/setup.stamp: pyproject.toml hatch_build.py $(BUILD_ENV)/ready $(VENV)/ready
	@rm -rf build/editable
	$(BUILD_ENV)/bin/python -m hatchling build --target wheel:editable --directory build/editable
	$(BIN)/python $(PIP) install --no-deps --no-index --force-reinstall build/editable/proa-*.whl
	@touch $@

.PHONY: proto
proto: build/proto.stamp  ## generate the code of all protos (Envoy's, Proa's, the reference systems')

build/proto.stamp: $(PROTO_SOURCES) hatch_build.py $(BUILD_ENV)/ready
	$(BUILD_ENV)/bin/python hatch_build.py
	@touch $@

.PHONY: format
format: setup  ## rewrite the code as ruff formats it, and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: check
check: setup lint-protos  ## what is fast: format, lint, types, imports, house rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy mesh services
	$(BIN)/lint-imports --no-logo --cache-dir build/import-linter
	$(BIN)/pytest --quiet tests/test_house.py

.PHONY: lint-protos
lint-protos: setup
	@if ! command -v npm >/dev/null; then echo "buf lint: skipped, there is no node"; \
	elif $(MAKE) --no-print-directory $(BUF); then $(BUF) lint build/protos.binpb; \
	else echo "buf lint: skipped, it could not be installed"; test -z "$$CI"; fi

$(BUF): Makefile
	npm install --silent --no-audit --no-fund --prefix build/node @bufbuild/buf@$(BUF_VERSION)
	@touch $@

# Unit tests compute: one worker for each core. Most others wait for something, so there are more of them, and tests that
# share a mesh run in one of them (tests/one_mesh.py).
.PHONY: test
test: setup  ## every test, real Envoys included; first the pure rooms, which the unit tests cover completely
	$(BIN)/pytest tests/unit --cov --numprocesses=logical
	$(BIN)/pytest --ignore=tests/unit --numprocesses=3 --dist=loadscope

.PHONY: test-long
test-long: export PROA_EFFORT := 10
test-long: test  ## the same with ten times the effort: more examples, longer load

.PHONY: golden
golden: setup  ## rewrite the expected output; read the diff before you commit it
	$(BIN)/pytest tests/unit --update-golden

.PHONY: demo
demo: setup  ## the bookstore on a real mesh; Ctrl-C drains and ends it
	@exec $(BIN)/proa up services/bookstore/mesh.yaml

.PHONY: bench-start
bench-start: setup  ## time to `mesh ready` and memory, as JSON in build/bench/start.json
	$(BIN)/python tests/bench/start.py

.PHONY: bench-push
bench-push: setup  ## how fast a change reaches 1,000 proxies, over a server that only writes (RULERS=<folder>, FULL=1)
	PYTHONPATH=. $(BIN)/python tests/bench/push.py

.PHONY: bench-dataplane
bench-dataplane: setup  ## what a call costs in a pair of sidecars, over the smallest secure pair (RULERS=<folder>, FULL=1)
	PYTHONPATH=. $(BIN)/python tests/bench/dataplane.py

.PHONY: lock
lock: $(UV)  ## choose the newest versions that pyproject.toml allows, with hashes
	$(LOCK) --upgrade --group dev --all-extras --output-file requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  | $(LOCK) --upgrade --output-file requirements/build.txt -

$(UV): | build/python.stamp
	$(PYTHON) -m venv build/uv
	build/uv/bin/python $(PIP) install uv==0.13.8

.PHONY: clean
clean:  ## remove the environments, the generated code and all build output
	rm -rf build dist .venv services/gen $(filter-out mesh/api/__init__.py, $(wildcard mesh/api/*))
	find mesh services tests -name __pycache__ -type d -prune -exec rm -rf {} +
