# Two commands: `make demo` and `make test`. Both set up .venv first; both can be repeated.
# .ci/run checks more: the slow tests, and those of numbers as on another processor.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The CPU build of PyTorch is small; the range in pyproject.toml admits others.
TORCH ?= torch==2.13.0
# One thread: with more than there are free cores, PyTorch's kernels wait for one another.
export OMP_NUM_THREADS ?= 1

# As on a processor without AVX-512: the kernels of PyTorch, MKL, oneDNN, NumPy and OpenBLAS. oneDNN's
# are switched off besides. `make test-portable CAPABILITY=default CBWR=COMPATIBLE` is without AVX2 too.
# Shapes are the same on every processor, and not checked a second time.
CAPABILITY ?= avx2
CBWR ?= AVX2
PORTABLE := ATEN_CPU_CAPABILITY=$(CAPABILITY) MKL_CBWR=$(CBWR) ONEDNN_MAX_CPU_ISA=AVX2 \
	OPENBLAS_CORETYPE=Haswell NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR" \
	TORCHINDUCTOR_CACHE_DIR="$(CURDIR)/$(VENV)/compiled-$(CAPABILITY)" JSRL_UNCHECKED_SHAPES=1 \
	PYTHONPATH="$(CURDIR)/tests/without_onednn:$$PYTHONPATH"
NUMERICAL := $(addprefix tests/, learners networks monitor/detectors rollout statistics \
	core/test_nondeterminism.py core/test_streams.py test_traps.py) \
	$(addprefix --ignore=tests/learners/, test_custom.py test_custom_saved.py test_moved_project.py \
	test_presets.py) \
	$(addprefix --deselect=tests/, networks/test_export.py::test_it_is_quiet \
	rollout/test_transition_store.py::test_a_hundred_thousand_images_take_at_most_1400_megabytes)

.PHONY: demo test test-slow test-portable setup lint types wheel clean

demo: setup
	@echo "Training a mediocre guide, then Jump-Start RL from it, on PointMaze: about 2 minutes."
	@$(BIN)/jsrl train experiment=pointmaze_jsrl run_dir=runs/demo
	@echo "Learning curve: runs/demo/learning_curve.png"
	@echo "More numbers:   $(BIN)/tensorboard --logdir runs/demo/tensorboard"

test: setup
	@echo "Running the tests in two processes: about 12 minutes on two quiet cores."
	@$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: setup
	@echo "Running the tests that take long each: about 2 minutes."
	@$(BIN)/python -m pytest -n 2 -m slow

test-portable: setup
	@$(PORTABLE) $(BIN)/python -c "import torch; print('As on another processor: PyTorch for', \
		torch.backends.cpu.get_cpu_capability() + ', oneDNN', \
		'on' if torch.backends.mkldnn.enabled else 'off')"
	@echo "Running the tests of numbers there: about 5 minutes."
	@$(PORTABLE) $(BIN)/python -m pytest -n 2 -m "not slow" $(NUMERICAL)

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
