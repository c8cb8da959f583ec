# make parity   check every registered pair on recorded and generated batches; writes reports/
# make test     run the test suite
# make test-all the same with the tests that take minutes to compile
# make soak     2,000 generated examples of every pair, and 200 with updates; writes reports/soak* (two hours)
# make soak-full  100,000 examples, spread over the pairs; writes reports/soak-full (hours; goes on where it was)
# make bench    ports against references, in time, memory and random numbers; writes reports/benchmarks/ (an hour)
# make soak-tests  the property tests with more examples, over any sizes and switches (long)
# make mutants  a sample of deliberate porting bugs in all ports: do the stages notice? writes reports/mutants/
# make mutants-full  all of them (hours)
# make lint     ruff and mypy
#
# Each of them first makes a virtual environment in .venv with the pinned versions of constraints.txt.
# PYTHON chooses the interpreter (3.11 or 3.12), VENV another place.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

# Compiled XLA programs are kept beside the environment: a second run starts where the first one stopped.
export JAX_COMPILATION_CACHE_DIR ?= $(abspath $(VENV))/xla-cache
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.2

# For make soak: which pairs (all if none), and the seed of the examples.
SOAK ?=
SEED ?= 1

# For make mutants: how many mutants.
MUTANTS ?= 300
# Pairs with encoders are not registered, and the only ones that run them.
ENCODED := $(addprefix torch_agents.pairs:,$(addsuffix _ENCODED,HILP FB_REPR CRL_INFONCE TD_INFONCE INFOM))
SAMPLE_PAIRS := iql rebrac mbpo_rebrac dino_rebrac $(ENCODED)
MUTANT_PAIRS := $(SAMPLE_PAIRS) hilp crl_infonce td_infonce fb_repr infom \
	$(addprefix torch_agents.pairs:,IQL_IMAGES DINO_REBRAC_IMAGES)

.PHONY: parity test test-all soak soak-full soak-tests bench mutants mutants-full lint record clean

parity: $(READY)
	$(BIN)/parity run

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m 'not slow' parity_tests

test-all: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadgroup parity_tests

soak: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/parity soak $(SOAK) --examples 2000 --seed $(SEED) --reports reports/soak
	OMP_NUM_THREADS=1 $(BIN)/parity soak $(SOAK) --examples 200 --seed $(SEED) --reports reports/soak-updates \
		--stage update --stage rollout

# nine pairs, 28 parts of 400 each
soak-full: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/parity soak --examples 11200 --seed $(SEED) --reports reports/soak-full

soak-tests: $(READY)
	PARITY_PROFILE=soak $(BIN)/python -m pytest -n 2 --dist loadgroup parity_tests/agents

bench: $(READY)
	$(BIN)/python -m benchmarks.update_step --variants port compiled products
	$(BIN)/python -m benchmarks.memory
	$(BIN)/python -m benchmarks.random_numbers
	$(BIN)/python -m benchmarks.random_numbers --compiled
	$(BIN)/python -m benchmarks.harness
	$(BIN)/python -m benchmarks.growth

mutants: $(READY)
	$(BIN)/parity mutate $(SAMPLE_PAIRS) --sample $(MUTANTS) --seed $(SEED) --brief --no-resume --reports reports/mutants

mutants-full: $(READY)
	$(BIN)/parity mutate $(MUTANT_PAIRS) --reports reports/mutants

lint: $(READY)
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	$(BIN)/ruff format --check . && $(BIN)/ruff check .
	$(BIN)/mypy

record: $(READY)
	$(BIN)/pip install -q -c constraints.txt -e '.[record]'
	$(BIN)/parity record

# torch comes first and alone: an open requirement would fetch a build with several GB of GPU libraries
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e '.[test]'
	touch $(READY)

clean:
	rm -rf $(VENV) reports build *.egg-info
