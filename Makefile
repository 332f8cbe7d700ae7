# Every target works from a fresh clone: it needs Python >= 3.11, make and a C++ compiler (torch.compile calls it).
PYTHON ?= python3
VENV ?= .venv
PIP := 26.3

export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: help quickstart test lint docs bench gpu mutants constraints clean
.DEFAULT_GOAL := help

help: ## Show this list
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

quickstart: $(VENV)/.stamp ## Train on digits: hybrid code and adaptive neurons beside direct code and fixed ones
	snntorch-asnn quickstart --out runs/quickstart

test: $(VENV)/.stamp ## Run all tests, doctests and tutorials
	pytest -n auto --dist worksteal

lint: $(VENV)/.stamp ## Check style, types, imports and spelling; fixes what can be fixed
	pre-commit run --all-files --show-diff-on-failure

docs: $(VENV)/.stamp ## Build the documentation, running the tutorials
	sphinx-build -W --keep-going -b html docs docs/_build/html
	@echo "Open docs/_build/html/index.html"

bench: export MALLOC_MMAP_MAX_ := 0
bench: export MALLOC_TRIM_THRESHOLD_ := 99999999999
bench: $(VENV)/.stamp ## Measure speed and memory, beside SpikingJelly where it is installed; docs/engine.md shows the results
	python benchmarks/neuron.py --json benchmarks/results/neuron.json
	python benchmarks/neuron.py --first-calls --json benchmarks/results/first_calls.json
	python benchmarks/training.py --json benchmarks/results/training.json

gpu: $(VENV)/.stamp ## Test and measure everything on a GPU, within nine minutes
	python benchmarks/gpu.py

mutants: $(VENV)/.stamp ## Change the code in a hundred places and see which changes the tests notice (about an hour)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt --group mutants
	python .ci/mutants.py

constraints: ## Renew constraints.txt and constraints-core.txt from fresh installations
	PYTHON=$(PYTHON) .ci/lock

clean: ## Remove the environment and everything built
	rm -rf $(VENV) build dist docs/_build docs/tutorials .mypy_cache .pytest_cache .ruff_cache

# The stamp is written last, so an installation that was cut off starts again.
$(VENV)/.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python >= 3.11 is needed; name one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet pip==$(PIP)
	$(VENV)/bin/python -m pip install --quiet -c constraints.txt --editable '.[all]' --group dev
	@touch $@
