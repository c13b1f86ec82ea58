# `make demo` and `make test` on a fresh clone do everything; both work again without installing again.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Where the right torch comes from, e.g. make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=

.PHONY: demo test lint slow fuzz install serve results docs
install: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) --no-deps -c constraints.txt torch
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .[dev]
	touch $@

demo: install
	$(BIN)/refseg segment examples/scene.png "the striped square" "cyan square on the right" --out out
	@echo "The pictures are in $(CURDIR)/out: scene.1.overlay.png and scene.2.overlay.png"

# The page on http://127.0.0.1:8000
serve: install
	$(BIN)/refseg serve

test: install
	$(BIN)/python -m pytest -n auto

slow: install
	$(BIN)/python -m pytest -n auto -m "slow and not alone"
	$(BIN)/python -m pytest -n 0 -m alone

# The documentation as a site in site/: a dead link, a missing anchor or a page outside of the navigation stops it
docs: $(VENV)/installed-docs
	$(BIN)/python tools/build_docs.py
	$(BIN)/python tools/check_docs.py

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .[docs]
	touch $@

# As many broken inputs as wanted over every reader, and a table of what became of them: make fuzz N=50000
N ?= 2000
SEED ?= 0
fuzz: install
	PYTHONPATH=tests:tests/training $(BIN)/python -m fuzz.campaign --inputs $(N) --seed $(SEED)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# docs/results.md and its plots, from docs/results/*.json
results: install
	$(BIN)/python tools/results.py
