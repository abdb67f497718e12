# make demo   install into .venv and run the main job on the shipped pictures; results in demo/
# make test   the test suite, offline, a file at a time on each core
# make slow   the tests that take longer than ten seconds each: real runs, many at once
# make lint   formatting, lint rules, import directions, types
# make docs   the generated pages and the README's picture
# All need Python 3.11 or newer and nothing else; PYTHON=… chooses another interpreter.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test slow lint docs

demo: .venv/.installed
	$(BIN)/python examples/demo.py

test: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

slow: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'slow and not gpu and not network and not weights'

lint: .venv/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: demo
	$(BIN)/python docs/build_tasks.py
	mkdir -p docs/images
	cp demo/overview.png docs/images/overview.png

# The stamp is written last, so an interrupted installation is taken up again.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("omnialpha needs Python 3.11 or newer; make PYTHON=/path/to/python3.11")'
	@echo "Installing into .venv: a few minutes the first time, most of them for torch"
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[dev]'
	touch $@
