# Two commands: `make demo` and `make test`. Both set up .venv first; both can be repeated.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CPU build of PyTorch is small; the range in pyproject.toml admits others.
TORCH ?= torch==2.13.0
# One thread: with more than there are free cores, PyTorch's kernels wait for one another.
export OMP_NUM_THREADS ?= 1

.PHONY: demo test setup lint types wheel clean

demo: setup
	@echo "Training a mediocre guide, then Jump-Start RL from it, on PointMaze: about 2 minutes."
	@$(BIN)/jsrl train experiment=pointmaze_jsrl run_dir=runs/demo
	@echo "Learning curve: runs/demo/learning_curve.png"
	@echo "More numbers:   $(BIN)/tensorboard --logdir runs/demo/tensorboard"

test: setup
	@echo "Running the tests in two processes: about 8 minutes."
	@$(BIN)/python -m pytest -n 2

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml Makefile
	@echo "Setting up $(VENV): a few minutes the first time, most of it downloads."
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "jsrl needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[test]"
	@touch $@

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

# The wheel, installed in a fresh environment and run once in an empty folder.
wheel: setup
	scripts/check_wheel.sh $(BIN)/python "$(TORCH)"

clean:
	rm -rf $(VENV) build dist runs
