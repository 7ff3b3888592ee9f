# Every target makes .venv from the lock when it is missing; nothing else needs to be typed first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test check test-system bench evaluate lock docs clean

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

bench: $(READY)
	@$(BIN)/python -m tests.bench $(ARGS)

evaluate: $(READY)
	@$(BIN)/python -m tests.evaluate $(ARGS)

docs: $(READY)
	@$(BIN)/python docs/make_pages.py

# Needs uv; the lock names packages and hashes, never the host they came from.
lock:
	uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -o requirements.lock
	uv pip compile pyproject.toml --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --no-annotate -o requirements-agent.lock

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
