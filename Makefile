# Python 3.11+ and make are all that `make up` and `make test` need; the rest comes from the package registries.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
LOCK   := --quiet --no-header --universal --python-version 3.11 --generate-hashes

# Where it is set, each of the hundreds of processes that tests start would compile everything again: a second each.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install up test lint faults bench bench-receiver bench-receiver-more bench-consumers bench-subscriber bench-replay bench-reconcile bench-trace lock

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1	/' | expand -t 24

install: $(VENV)/.up ## what `make up` needs, into .venv, by version and hash

up: $(VENV)/.up ## the whole pipeline on this machine; ARGS="--check --data DIR"
	@$(BIN)/dial-results up $(ARGS)

test: $(VENV)/.dev ## every test, with a real Kafka, PostgreSQL and Delta table
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(VENV)/.dev ## style, types, import rules, the compose file
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/yamllint --strict docker-compose.yml deploy .yamllint
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@if command -v docker-compose >/dev/null; then \
		POSTGRES_PASSWORD=lint ANALYTICS_PSEUDONYM_KEY=lint CRM_TOKEN=lint \
		docker-compose --env-file deploy/env.example config --quiet && echo "docker-compose config: ok"; \
	else echo "SKIPPED: docker-compose config (install docker-compose)"; fi

faults: $(VENV)/.dev ## slow fault injection: kills, full disks, lost replies (needs strace and a C compiler for some)
	$(BIN)/pytest -m faults --timeout 1800 $(ARGS)

bench: bench-receiver bench-consumers bench-subscriber bench-replay bench-reconcile bench-trace ## every benchmark

bench-subscriber: $(VENV)/.dev ## the subscriber kit beside the bare client's loop
	$(BIN)/python -m benchmarks.subscriber $(ARGS)

bench-reconcile: $(VENV)/.dev ## 10,000 records of a task compared with what Blu's query says
	$(BIN)/python -m benchmarks.reconcile $(ARGS)

bench-receiver: $(VENV)/.bench ## the receiver beside its yardsticks (needs wrk; Go for one of them)
	$(BIN)/python -m benchmarks.receiver $(ARGS)

bench-receiver-more: $(VENV)/.bench ## one part of: growth outages quiet drain memory; ARGS="drain --write"
	$(BIN)/python -m benchmarks.receiver.more $(ARGS)

bench-consumers: $(VENV)/.bench ## every sink's speed, memory and freshness beside its target; ARGS="storage --scale 0.1"
	$(BIN)/python -m benchmarks.consumers $(ARGS)

bench-replay: $(VENV)/.dev ## replays: counting, copying, the rate, what live results notice; ARGS="copy --records 100000"
	$(BIN)/python -m benchmarks.replay $(ARGS)

bench-trace: $(VENV)/.dev ## one result's way with a million stored; ARGS="--results 100000"
	$(BIN)/python -m benchmarks.trace $(ARGS)

define fresh_venv
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed, $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing $< into $(VENV) (versions and hashes are fixed) ..."
	@$(BIN)/pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 --require-hashes -r $<
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
endef

$(VENV)/.up: deploy/locks/up.txt pyproject.toml
	$(fresh_venv)

$(VENV)/.dev: deploy/locks/dev.txt pyproject.toml
	$(fresh_venv)
	@touch $(VENV)/.up

$(VENV)/.bench: deploy/locks/bench.txt pyproject.toml
	$(fresh_venv)

lock: $(VENV)/.dev ## resolve the dependencies again and write deploy/locks
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --extra dev $(LOCK) -o deploy/locks/dev.txt
	$(BIN)/uv pip compile pyproject.toml $(LOCK) -c deploy/locks/dev.txt -o deploy/locks/receiver.txt
	for process in storage analytics crm; do $(BIN)/uv pip compile pyproject.toml --extra $$process $(LOCK) -c deploy/locks/dev.txt -o deploy/locks/$$process.txt || exit 1; done
	$(BIN)/uv pip compile pyproject.toml --extra ops $(LOCK) -c deploy/locks/dev.txt -o deploy/locks/up.txt
	$(BIN)/uv pip compile pyproject.toml --extra bench $(LOCK) -c deploy/locks/dev.txt -o deploy/locks/bench.txt
