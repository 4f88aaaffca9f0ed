# Two commands are enough: `make sweep` and `make test`. Both set up what they need in .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TEST_PROCESSES ?= 2
READY := $(VENV)/.ready

# Tests and the quick start never ask a model hub.
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: setup sweep test test-slow check format benchmarks clean

setup: $(READY)

# torch first and exactly: a range lets pip fetch another build. perforatedai without its own dependencies: it asks for
# torchvision, which breaks `import transformers` beside a CPU torch, and needs it only for ResNet and LSTM parts.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,perforatedai]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps perforatedai
	touch $@

sweep: $(READY)
	$(BIN)/raysweep run search_spaces/quickstart.yaml

# Two processes, each with whole files: what a file has set up serves all its tests. In the order of their folders, for
# contracts and system hold the longest ones, which would otherwise come last and alone. Ray gives trials a lower
# priority (niceness 15), at which those of one test would wait for all that other tests compute. One thread in each:
# threads of several processes on the same cores wait for each other.
test: $(READY)
	OMP_NUM_THREADS=1 RAY_worker_niceness=0 $(BIN)/python -m pytest -m 'not slow' --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: $(READY)
	$(BIN)/python -m benchmarks.overhead
	$(BIN)/python -m benchmarks.truth
	$(if $(DATA),$(BIN)/python -m benchmarks.epoch --data $(DATA),@echo "benchmarks.epoch left out: make benchmarks DATA=FOLDER")

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
