# Needs Python 3.11+ and git; everything else is installed into .venv the first time a target asks for it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
EXTRAS := coreml,coreai,tflite,train,plot,dev
READY := $(VENV)/installed
DEMO := build/demo
DEMO_MODEL := vit_fashion_b1
DEMO_ROWS := examples/data/fashion_mnist.npz

.PHONY: help demo tools test test-slow lint format bench conformance docs lock clean

# Products of small matrices: threads cost more than they give, most of all on a busy machine.
demo test test-slow conformance: export OPENBLAS_NUM_THREADS := 1
demo test test-slow conformance: export OMP_NUM_THREADS := 1

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(READY) ## compile a trained model for the Neural Engine, execute the saved package, compare with ONNX Runtime
	@mkdir -p $(DEMO)
	$(BIN)/compile examples/$(DEMO_MODEL).onnx --target ane -o $(DEMO)/$(DEMO_MODEL).mlpackage
	$(BIN)/python examples/demo.py $(DEMO)/$(DEMO_MODEL).mlpackage examples/$(DEMO_MODEL).onnx $(DEMO_ROWS)

tools: ## install what builds and runs generated sources: compilers for here and for aarch64, qemu; tests that need them are skipped without
	@.ci/system cc c++ aarch64-linux-gnu-gcc qemu-aarch64

test: $(READY) ## the tests, but for the slow ones, on all cores
	$(BIN)/python -m pytest -q -n auto -m "not slow"

test-slow: $(READY) ## all tests
	$(BIN)/python -m pytest -q -n auto

lint: $(READY) ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## compile time and memory against other tools
	$(BIN)/python -m benchmarks.run --all

conformance: $(READY) ## every operation and all cases of ONNX's suite against the baseline, which UPDATE=1 writes anew
	$(BIN)/python -m pytest -q tests/test_ops.py
	$(BIN)/python -m tests.conformance $(if $(UPDATE),--update)
	$(if $(UPDATE),$(BIN)/python docs/build.py)

docs: $(READY) ## render the generated pages of docs/
	$(BIN)/python docs/build.py

lock: ## write constraints.txt anew, from the newest versions of everything
	@.ci/venv build/lock $(EXTRAS) /dev/null
	{ sed '/^[^#]/d' constraints.txt; build/lock/bin/python -m pip freeze --exclude-editable; } > build/constraints.txt
	mv build/constraints.txt constraints.txt

clean: ## remove everything that make created
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@.ci/venv $(VENV) $(EXTRAS) constraints.txt
	@touch $@
