# Every command of the project; `make` alone lists them. Needs Python 3.11 or newer (with venv and pip) and make;
# `make test` needs more, which tests/install_needs.sh installs or names.

PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
WEB_TESTS = $(or $(wildcard tests/web/*.test.js tests/web/*/*.test.js),$(error no tests in tests/web))
SECONDS ?= 600
CRASH_SECONDS := $(if $(filter file,$(origin SECONDS)),300,$(SECONDS))
BENCH_REPORT ?= dist/bench
FUZZ_TARGETS := decoder topics connections
TSC := tests/node/node_modules/.bin/tsc

.DEFAULT_GOAL := help
.PHONY: help demo production-demo test check types-web needs bench bench-docs fuzz crash format clean

help:
	@echo "make demo     install into .venv and run a server with a demo conversation: one URL per demo user"
	@echo "make production-demo  run the article's whole system here: PostgreSQL, SQS, Mosquitto, two API processes, a worker"
	@echo "make test     install what the tests need, then run every test"
	@echo "make check    format, lint, types, layers, docs, the statements of MQTT"
	@echo "make bench    compare the transports on this machine: figures and a page with plots in $(BENCH_REPORT)/"
	@echo "make fuzz     look for input that breaks the codec, for SECONDS=$(SECONDS)"
	@echo "make crash    kill, stop and fill the server under load for SECONDS=$(CRASH_SECONDS), by SEED, and see what it kept"
	@echo "make format   let ruff rewrite the Python files"
	@echo "make clean    remove .venv and everything else that was built"

demo: .venv/.installed
	@exec $(BIN)/recado demo

production-demo: .venv/.installed-test
	@exec $(BIN)/python -m deploy.production_demo

test: needs .venv/.installed-test
	node --test $(WEB_TESTS)
	$(BIN)/python -m pytest

check: .venv/.installed-check types-web
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_docs.py
	$(BIN)/python -m tests.conformance.coverage

types-web:
	@if [ -x $(TSC) ]; then echo "$(TSC) -p tests/web" && $(TSC) -p tests/web; \
	else echo "The browser code's types were not checked: 'make needs' installs TypeScript."; fi

needs:
	@bash tests/install_needs.sh

bench: .venv/.installed-bench
	@mkdir -p $(BENCH_REPORT)
	$(BIN)/recado bench compare --json $(BENCH_REPORT)/comparison.json --report $(BENCH_REPORT) $(BENCH_OPTIONS)

bench-docs: bench
	$(BIN)/python -m recado.bench.documentation $(BENCH_REPORT)/comparison.json docs

fuzz: .venv/.installed-fuzz
	@for target in $(FUZZ_TARGETS); do \
	$(BIN)/python -m tests.fuzz.target $$target -max_total_time=$$(( $(SECONDS) / $(words $(FUZZ_TARGETS)) )) || exit 1; done

crash: .venv/.installed-test
	$(BIN)/python -m tests.crash.run --seed "$(SEED)" --seconds $(CRASH_SECONDS)

format: .venv/.installed-check
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean:
	rm -rf .venv .fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis dist tests/node/node_modules tests/web/node_modules
	find src tests benchmarks deploy examples -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "Recado needs Python 3.11 or newer, and none of python3, python3.11 ... python3.14 is. \
	Install one, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is no Python 3.11 or newer." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) has no venv or no pip. \
	On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@echo "Installing Recado into .venv ..."
	@$(PYTHON) -m venv .venv
	@$(PIP) --editable .
	@touch $@

.venv/.pip: .venv/.installed
	@$(PIP) 'pip>=25.1'  # the first that knows dependency groups
	@touch $@

.venv/.installed-test: .venv/.pip
	@echo "Installing what the tests import into .venv ..."
	@$(PIP) --editable '.[production,bench]' --group test
	@touch $@

.venv/.installed-check: .venv/.pip
	@echo "Installing the checkers into .venv ..."
	@$(PIP) --editable '.[production,bench]' --group test --group check
	@touch $@

.venv/.installed-bench: .venv/.installed
	@echo "Installing what draws the plots into .venv ..."
	@$(PIP) --editable '.[bench]'
	@touch $@

.venv/.installed-fuzz: .venv/.pip
	@echo "Installing the fuzzer into .venv ..."
	@$(PIP) --editable '.[production]' --group test --group fuzz
	@touch $@
