# Everything happens inside this clone: the environment is .venv, nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench broker-soak clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml tools/setup_env.sh
	@PYTHON=$(PYTHON) sh tools/setup_env.sh $(VENV)
	@touch $@

demo: $(STAMP) ## a doorbell rings a kitchen, for real, over a broker on loopback
	@$(BIN)/python examples/demo.py

test: $(STAMP) ## the whole suite
	@$(BIN)/python -m pytest -q

lint: $(STAMP) ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(STAMP) ## speed and size beside their floors; writes docs/performance.md's tables
	@$(BIN)/python -m tests.bench

broker-soak: $(STAMP) ## kill the broker 200 times under load; nothing acknowledged may be lost
	@$(BIN)/python -m tests.broker_support.killing 200

clean: ## remove what make made
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
