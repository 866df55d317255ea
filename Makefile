# Needs Python 3.11 or newer, and nothing else: what the targets use is installed into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PORT ?= 3000
PYTEST_ARGS ?=

.PHONY: help run test test-lowest lint clean

help:
	@echo "make run    serve an echo application on port $(PORT)"
	@echo "make test   run the tests: lint, types, behaviour, coverage"
	@echo "make test-lowest  the tests without real clients, on the lowest supported versions"
	@echo "make lint   ruff and mypy alone"
	@echo "make clean  remove what the other targets made"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# Not an ordinary editable install: twistd finds plugins only in folders that are on the path of Python.
$(VENV)/run: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --config-settings editable_mode=compat
	@touch $@

$(VENV)/test: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]' --config-settings editable_mode=compat
	@touch $@

run: $(VENV)/run
	@echo 'Clients connect to http://localhost:$(PORT)/engine.io/ - every message comes back. Ctrl-C ends it.'
	@echo 'Try in another terminal:'
	@echo '  curl "http://localhost:$(PORT)/engine.io/?EIO=4&transport=polling"    # opens a session by hand'
	@echo '  cd examples/latency && npm ci && ../../$(BIN)/python latency.py tcp:3001  # plots the round trip in a browser'
	@echo 'Read next: docs/interface.md, examples/README.md'
	@$(BIN)/twistd -n --pidfile= engineio --listen tcp:$(PORT)

lint: $(VENV)/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(VENV)/test lint
	$(BIN)/python -m pytest --cov --cov-report=term $(PYTEST_ARGS)

# The tests without real clients: what differs between versions of the libraries shows without them.
test-lowest: tests/lowest.txt setup.py
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]' --constraint tests/lowest.txt --config-settings editable_mode=compat
	$(VENV)-lowest/bin/python -m pytest -q -m 'not node and not browser and not slow' $(PYTEST_ARGS)

clean:
	rm -rf $(VENV) $(VENV)-lowest build dist *.egg-info artifacts .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
