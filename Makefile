# make demo | test | test-fast | lint | docs | dist | mutants | reliability, on a machine with Python >= 3.11 and make.
# PIP_ARGS goes to pip: for a CPU-only PyTorch on Linux,
#   make demo PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-fast lint docs dist mutants reliability clean

demo: $(VENV)/installed
	$(BIN)/oche demo

# Three workers on two cores: several tests wait for processes.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n 3

# The inner loop: every folder, without what is marked slow (processes, browsers, Ray, whole runs and searches, snippets of the
# documentation). Run make test before a commit.
test-fast: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -m "not slow"

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

docs: $(VENV)/installed-docs
	$(BIN)/sphinx-build -W -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# Wheel and source distribution, each tried in an environment of its own, away from the repository; the demonstration once.
dist:
	rm -rf dist
	$(PYTHON) -m venv dist/tools
	dist/tools/bin/python -m pip install --quiet --disable-pip-version-check build
	dist/tools/bin/python -m build --outdir dist .
	mkdir dist/elsewhere
	set -e; for file in dist/*.tar.gz dist/*.whl; do \
	  $(PYTHON) -m venv --clear dist/fresh; \
	  dist/fresh/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) $$file; \
	  (cd dist/elsewhere && ../fresh/bin/python -c "$$INSTALLED" && ../fresh/bin/oche --help >/dev/null); \
	  echo "$$file: installs, and is quick to import"; \
	done
	cd dist/elsewhere && ../fresh/bin/oche demo

define INSTALLED
import sys
from importlib.resources import files
import oche
assert "torch" not in sys.modules, "import oche brings torch with it"
assert (files("oche") / "py.typed").is_file(), "types are not announced"
assert "fresh" in oche.__file__, f"that was {oche.__file__}"
endef
export INSTALLED

mutants: $(VENV)/installed-mutants
	nice -n 15 $(BIN)/python benchmarks/reliability/mutants.py

reliability: $(VENV)/installed-dev
	nice $(BIN)/python benchmarks/reliability/fuzz.py
	nice $(BIN)/python benchmarks/reliability/kills.py
	nice $(BIN)/python benchmarks/reliability/system.py
	nice $(BIN)/python benchmarks/reliability/nodes.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "oche needs Python 3.11 or newer, and $(PYTHON) is older; write make PYTHON=python3.12 ..."; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e ".[dev]"
	@touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e ".[docs]"
	@touch $@

$(VENV)/installed-mutants: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e ".[mutants]"
	@touch $@

clean:
	rm -rf $(VENV) docs/_build dist
