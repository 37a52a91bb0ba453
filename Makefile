# Everything is built from pinned requirements into .venv (and .venvs/NAME for the
# agent frameworks, which exclude one another). The only things a machine must have
# are Python 3.11 or newer and make. A stamp file makes the second run quick.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# PYTHON=/path/to/python3.12 make test: another interpreter. By default the first one that is new enough.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
PIP_FLAGS := --only-binary :all: --no-deps --disable-pip-version-check --no-input --quiet --progress-bar off
PYTEST_FLAGS ?=
# Two workers: what the core suite is measured with.
WORKERS ?= 2
PINNED := $(sort $(patsubst requirements/integrations-%.txt,%,$(wildcard requirements/integrations-*.txt)))
WITH_TESTS := $(notdir $(patsubst %/,%,$(dir $(wildcard tests/integrations/*/test_*.py))))
INTEGRATIONS ?= $(filter $(WITH_TESTS),$(PINNED))
PATHS := agentguard tests $(wildcard benchmarks) $(wildcard examples)

define find_python
python=""; \
for candidate in "$(PYTHON)" python3 python3.13 python3.12 python3.11 python; do \
	if [ -n "$$candidate" ] && "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
		python="$$candidate"; break; \
	elif [ -n "$(PYTHON)" ] && [ "$$candidate" = "$(PYTHON)" ]; then \
		echo "make: PYTHON=$(PYTHON) does not run, or is older than 3.11" >&2; exit 2; \
	fi; \
done; \
if [ -z "$$python" ]; then \
	echo "make: Python 3.11 or newer is needed; python3 here is: $$(python3 -V 2>&1 || true)" >&2; \
	echo "hint: install one, or name it: make $@ PYTHON=/path/to/python3.12" >&2; \
	exit 2; \
fi
endef

# $(1): folder of the environment.
define create_environment
if ! $(1)/bin/python -m pip --version >/dev/null 2>&1; then \
	$(find_python); \
	echo "make: creating $(1) with $$("$$python" -V)" >&2; \
	rm -rf $(1); \
	"$$python" -m venv $(1) || { \
		echo "make: \`$$python -m venv\` failed" >&2; \
		echo "hint: on Debian and Ubuntu: apt install python3-venv" >&2; exit 2; }; \
fi
endef

# $(1): folder of the environment, $(2): requirements. Wheels only; the pins are complete, so nothing is resolved.
define install_environment
$(create_environment); \
echo "make: installing $(2) into $(1)" >&2; \
$(1)/bin/python -m pip install $(PIP_FLAGS) -r $(2); \
$(1)/bin/python -m pip install $(PIP_FLAGS) --no-build-isolation --editable .; \
$(1)/bin/python -m pip check --disable-pip-version-check >&2
endef

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-18s %s\n", $$1, $$2}'

CORE_PINS := requirements/base.txt requirements/build.txt requirements/openai-client.txt pyproject.toml

$(VENV)/.stamp-demo: $(CORE_PINS) requirements/demo.txt
	@if [ -e $(VENV)/.stamp-dev ]; then requirements=requirements/dev.txt; else requirements=requirements/demo.txt; fi; \
	$(call install_environment,$(VENV),"$$requirements")
	@touch $@

$(VENV)/.stamp-dev: $(CORE_PINS) requirements/demo.txt requirements/pytest.txt requirements/dev.txt
	@$(call install_environment,$(VENV),requirements/dev.txt)
	@touch $@ $(VENV)/.stamp-demo

.PHONY: demo
demo: $(VENV)/.stamp-demo ## Six ways an agent dies, and what catches each: under a minute, no network
	@$(BIN)/agentguard demo

.PHONY: test
test: lint types ## The core suite: lint, types, tests (at most 8 minutes on 2 cores, install included)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not long and not integration" \
		--ignore=tests/integrations $(PYTEST_FLAGS) tests

.PHONY: test-long
test-long: $(VENV)/.stamp-dev ## The same tests with thousands of runs each
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "long" --timeout 3600 \
		--ignore=tests/integrations $(PYTEST_FLAGS) tests

.PHONY: lint
lint: $(VENV)/.stamp-dev ## ruff, formatting, import contracts
	@$(BIN)/python -m ruff check $(PATHS)
	@$(BIN)/python -m ruff format --check --quiet $(PATHS) || { \
		echo "hint: .venv/bin/ruff format $(PATHS)" >&2; exit 1; }
	@$(BIN)/lint-imports --no-logo --no-cache

.PHONY: types
types: $(VENV)/.stamp-dev ## mypy --strict on the package and on tests/typing
	@$(BIN)/python -m mypy -p agentguard
	@if [ -d tests/typing ]; then $(BIN)/python -m mypy --strict tests/typing; fi

.venvs/%/.stamp: requirements/integrations-%.txt requirements/base.txt requirements/build.txt requirements/pytest.txt pyproject.toml
	@mkdir -p .venvs
	@$(call install_environment,.venvs/$*,requirements/integrations-$*.txt)
	@touch $@

.PHONY: $(addprefix test-integration-,$(PINNED))
$(addprefix test-integration-,$(PINNED)): test-integration-%: .venvs/%/.stamp
	@echo "make: integration $*" >&2
	@.venvs/$*/bin/python -m pytest -m "not long" $(PYTEST_FLAGS) tests/integrations/$*

.PHONY: test-integrations
test-integrations: ## One environment and one suite for each framework; INTEGRATIONS="openai otlp" for some
	@for name in $(filter-out $(PINNED),$(WITH_TESTS)); do \
		echo "make: tests/integrations/$$name has no requirements/integrations-$$name.txt" >&2; exit 1; \
	done
	@failed=""; \
	for name in $(INTEGRATIONS); do \
		$(MAKE) "test-integration-$$name" || failed="$$failed $$name"; \
	done; \
	if [ -n "$$failed" ]; then echo "make: integrations that failed:$$failed" >&2; exit 1; fi; \
	echo "make: integrations that passed: $(INTEGRATIONS)" >&2

.PHONY: bench
bench: $(VENV)/.stamp-dev ## What a governed call costs, beside the OpenTelemetry SDK in the same run
	@$(BIN)/python benchmarks/overhead.py

.PHONY: bench-all
bench-all: $(VENV)/.stamp-dev ## Every benchmark of overhead, into docs/explanation/overhead.md (half an hour, on a quiet machine)
	@$(BIN)/python benchmarks/overhead_report.py

.venvs/docs/.stamp: requirements/docs.txt requirements/base.txt requirements/build.txt pyproject.toml
	@mkdir -p .venvs
	@$(call install_environment,.venvs/docs,requirements/docs.txt)
	@touch $@

.PHONY: docs
docs: .venvs/docs/.stamp ## The documentation as HTML in docs/_build/html; a warning is an error
	@.venvs/docs/bin/python -m sphinx -n -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

.PHONY: clean
clean: ## Remove what was built: environments, caches, documentation
	@rm -rf $(VENV) .venvs dist build docs/_build .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find agentguard tests $(wildcard benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +
