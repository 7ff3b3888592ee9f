# Every target makes .venv from the lock when it is missing; nothing else needs to be typed first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready


.PHONY: run test check test-system fuzz bench bench-core bench-store bench-agent soak soak-spool servers evaluate deb bundle lock docs clean

run: $(READY)
	@$(BIN)/farmhand up

test: $(READY)
	@$(BIN)/python -m pytest -m "not system" $(ARGS)

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test-system: $(READY)
	@$(BIN)/python -m pytest -m system tests/system $(ARGS)

# Property tests over examples that no run has seen before.
fuzz: $(READY)
	@$(BIN)/python -m pytest -m "hypothesis and not system" --hypothesis-profile=fuzz $(ARGS)

bench: $(READY)
	@$(BIN)/python -m tests.bench $(ARGS)

# One tick of the core, framing included, for farms of three sizes, on one processor.
bench-core: $(READY)
	@$(BIN)/python -m tests.bench.core $(ARGS)

# The embedded store beside both InfluxDBs.
bench-store: $(READY)
	@$(BIN)/python -m tests.bench.store $(ARGS)

# The agent beside nvitop's exporter and gpustat, on the same stand-in driver.
bench-agent: $(READY)
	@$(BIN)/python -m tests.bench.agent $(ARGS)

# An hour of cards that go bad and come back: memory, threads and files must not grow.
soak: $(READY)
	@FARMHAND_SOAK_SECONDS=3600 $(BIN)/python -m pytest -m system -s tests/system/test_soak.py $(ARGS)

# Power cuts and damaged files by the hundred, on real file systems; needs root.
soak-spool: $(READY)
	@FARMHAND_SPOOL_ROUNDS=500 $(BIN)/python -m pytest -m system -s tests/system/test_spool_disk.py $(ARGS)

# The InfluxDB servers that test-system runs against; minutes the first time, needs go and cargo.
servers: $(READY)
	@$(BIN)/python -m tests.servers.build $(ARGS)

# How well faults are found: public data, injected faults, simulated farms; beside baselines, of
# which PyOD's live in an environment of their own.
evaluate: $(READY)
	@$(BIN)/python -m tests.evaluate $(ARGS)

# The agent for Debian 12, in dist/.
deb: $(READY)
	@packaging/build-deb.sh $(BIN)/python dist

# The agent with a Python of its own, for older systems, in dist/; needs root and a Debian mirror.
bundle: $(READY)
	@packaging/build-bundle.sh $(BIN)/python dist

docs: $(READY)
	@$(BIN)/python docs/make_pages.py
	@$(BIN)/python packaging/grafana/make_dashboards.py

# Needs uv; the lock names packages and hashes, never the host they came from.
lock:
	uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -o requirements.lock
	uv pip compile pyproject.toml --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -o requirements-agent.lock
	printf 'nvitop-exporter\ngpustat\n' | uv pip compile - --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -o requirements-bench.lock
	printf 'pyod\n' | uv pip compile - --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -o requirements-evaluate.lock

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "farmhand needs Python 3.11 or newer; $(PYTHON) is older (try: make PYTHON=python3.11)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "farmhand needs Python's venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

clean:
	rm -rf $(VENV)
