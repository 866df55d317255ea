# Needs Python 3.11 or newer, and nothing else: what the targets use is installed into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PORT ?= 3000
PYTEST_ARGS ?=
BENCH_ARGS ?=
FUZZ_SECONDS ?= 60
FUZZ_ARGS ?=
REQUIREMENTS = test lint docs
# Most tests wait for something: more processes than cores. One that has nothing left to do takes tests over from another.
PYTEST = -m pytest --numprocesses=4 --dist=worksteal

# The tests start hundreds of processes of Python: what one has compiled, the others read, whatever the environment says.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help run test test-measured test-slow test-peers test-lowest test-workers soak soak-workers soak-resume lint docs fuzz bench bench-socketio bench-workers bench-clients bench-quick dist clean

help:
	@echo "make run    serve an echo application on port $(PORT)"
	@echo "make test   run the tests: lint, types, behaviour, coverage; all, whichever fails"
	@echo "make test-slow  the tests that make test leaves out: builds of pages, further peers, every place to cut"
	@echo "make test-peers  our client against servers that others wrote: the whole matrix, which is among test-slow too"
	@echo "make test-lowest  the tests without real clients, on the lowest supported versions"
	@echo "make test-workers  the tests with real clients against two workers, whose connections come to each in turn"
	@echo "make soak   ten minutes of sessions that come, talk and vanish: nothing may be left or lost"
	@echo "make soak-workers  the same with workers that are killed, hang and are replaced meanwhile"
	@echo "make soak-resume  a million numbered messages between our client and our server, whose connections are cut all the time"
	@echo "make lint   ruff and mypy alone"
	@echo "make docs   the documentation as a site, in docs/_build/html; a warning is an error"
	@echo "make fuzz   feed everything that reads what clients send with any input, $(FUZZ_SECONDS) seconds each"
	@echo "make bench  compare with other servers, in 35 minutes; writes docs/performance.*"
	@echo "make bench-socketio  compare with other servers of Socket.IO, in 25 minutes; writes docs/performance-socketio.*"
	@echo "make bench-workers  measure several processes, in 10 minutes; writes docs/performance-workers.*"
	@echo "make bench-clients  compare with other clients, in five minutes; writes docs/performance-clients.*"
	@echo "make bench-quick  compare with bare Twisted, in two minutes; fails where it has become slower"
	@echo "make dist   build what is released, into dist, and see that it holds what it should and can be installed"
	@echo "make clean  remove what the other targets made"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)

# Not an ordinary editable install: twistd finds plugins only in folders that are on the path of Python.
$(VENV)/run: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --config-settings editable_mode=compat
	@touch $@

$(VENV)/test: setup.py pyproject.toml $(REQUIREMENTS:%=requirements/%.txt) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . $(REQUIREMENTS:%=--requirement requirements/%.txt) --config-settings editable_mode=compat
	@touch $@

$(VENV)-lowest/test: setup.py requirements/test.txt requirements/lowest.txt
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --quiet --disable-pip-version-check --editable . --requirement requirements/test.txt --constraint requirements/lowest.txt --config-settings editable_mode=compat
	@touch $@

# Where there is no wheel of atheris, inputs are made without it.
$(VENV)/fuzz: requirements/fuzz.txt | $(VENV)/test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary atheris --requirement requirements/fuzz.txt || echo "no atheris"
	@touch $@

$(VENV)/bench: requirements/bench.txt | $(VENV)/run
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements/bench.txt
	@touch $@

run: $(VENV)/run
	@echo 'Clients connect to http://localhost:$(PORT)/engine.io/ - every message comes back. Ctrl-C ends it.'
	@echo 'Try in another terminal:'
	@echo '  curl "http://localhost:$(PORT)/engine.io/?EIO=4&transport=polling"    # opens a session by hand'
	@echo '  cd examples/latency && npm ci && ../../$(BIN)/python latency.py tcp:3001  # plots the round trip in a browser'
	@echo 'Read next: docs/index.md, examples/README.md'
	@$(BIN)/twistd -n --pidfile= engineio --listen tcp:$(PORT)

lint: $(VENV)/test
	@failed=; for tool in 'ruff check .' 'ruff format --check .' mypy; do \
	    echo "$(BIN)/$$tool"; $(BIN)/$$tool || failed=1; done; [ -z "$$failed" ]

# Sphinx makes the pages of docs/, and those of docs/api from the docstrings.
docs: $(VENV)/test
	$(BIN)/sphinx-build -q -W --keep-going -n -E docs docs/_build/html
	@echo 'docs/_build/html/index.html'

# A part that fails hides none of those behind it.
test: $(VENV)/test
	@failed=; for part in lint test-measured; do $(MAKE) $$part || failed="$$failed $$part"; done; \
	[ -z "$$failed" ] || { echo "make test: failed:$$failed" >&2; exit 1; }

test-measured: $(VENV)/test
	$(BIN)/python $(PYTEST) -m 'not apart' --cov --cov-report=term $(PYTEST_ARGS)

# What is marked `apart`: before a release, and after a change of what it tests.
test-slow: $(VENV)/test
	$(BIN)/python $(PYTEST) -m apart $(PYTEST_ARGS)

# Needs Node.js and npm; uvicorn's and Bun's servers are installed into benchmarks/.build, as for `make bench`.
test-peers: $(VENV)/test
	$(BIN)/python $(PYTEST) tests/clients/test_peer_servers.py $(PYTEST_ARGS)

# What tests programs and documentation around the package, or modules that import nothing of Twisted or Autobahn; and
# tables of hundreds of inputs for what other modules show to be the same on all versions.
LOWEST_WITHOUT = tests/clients tests/pages tests/protocol tests/hostile/test_soak.py \
	tests/operation/test_deployment.py tests/operation/test_systemd.py tests/test_imports.py \
	tests/socketio/test_packet.py tests/socketio/test_binary.py tests/socketio/test_msgpack.py \
	tests/socketio/test_other_clients.py tests/hostile/test_bad_socketio.py tests/hostile/test_bad_socketio_handlers.py \
	tests/hostile/test_socketio_sessions.py tests/workers/test_cluster_bytes.py tests/workers/test_frames.py \
	tests/workers/test_page.py tests/workers/test_slots.py
# The tests without real clients: what differs between versions of the libraries shows without them.
test-lowest: $(VENV)-lowest/test
	$(VENV)-lowest/bin/python $(PYTEST) -m 'not node and not browser and not slow' $(LOWEST_WITHOUT:%=--ignore=%) --deselect=tests/testing/test_chat_tests.py::test_faults $(PYTEST_ARGS)

# Those who stop a server and start another one on its port are left out: the port is not that of a server.
WITH_WORKERS = tests/clients/test_node_client.py tests/clients/test_node_client_options.py tests/clients/test_python_engineio_client.py \
	tests/clients/test_own_client.py
test-workers: $(VENV)/test
	WORKERS=2 $(BIN)/python $(PYTEST) $(WITH_WORKERS) -k 'not test_reconnect' $(PYTEST_ARGS)

# SOAK_SECONDS in the environment makes it shorter.
soak: $(VENV)/test
	$(BIN)/python -m tests.soak

soak-workers: $(VENV)/test
	$(BIN)/python -m tests.soak.workers

# SOAK_MESSAGES makes it shorter, too.
soak-resume: $(VENV)/test
	$(BIN)/python -m tests.soak.resume

# FUZZ_ARGS names targets, and more (`python -m fuzz --help`). What fails is put into fuzz/found.
fuzz: $(VENV)/fuzz
	$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS) $(FUZZ_ARGS)

# Needs gcc, Node.js and npm besides. The other servers are installed into benchmarks/.build.
bench: $(VENV)/bench
	$(BIN)/python benchmarks/bench.py all --out docs $(BENCH_ARGS)

bench-socketio: $(VENV)/bench
	$(BIN)/python benchmarks/bench.py socketio --out docs $(BENCH_ARGS)

bench-workers: $(VENV)/bench
	$(BIN)/python benchmarks/workers.py --out docs $(BENCH_ARGS)

bench-clients: $(VENV)/bench
	$(BIN)/python benchmarks/clients.py --out docs $(BENCH_ARGS)

bench-quick: $(VENV)/run
	$(BIN)/python benchmarks/bench.py quick $(BENCH_ARGS)

# Of a fresh checkout: what lies about would be packed too.
dist: $(VENV)/test
	rm -rf dist
	$(BIN)/python -m build --no-isolation --outdir dist
	DIST=dist $(BIN)/python -m pytest -n 0 -q tests/pages/test_packaging.py

clean:
	rm -rf $(VENV) $(VENV)-lowest benchmarks/.build docs/_build fuzz/found build dist *.egg-info artifacts .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache
