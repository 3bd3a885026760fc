# Every target sets up first. `make demo` is the whole suite on real images; `make test` runs the tests.
PYTHON ?= python3.11
BIN := .venv/bin
EXTRAS := --extra cpu --extra demo --extra bench --extra dev

EXTRA ?= cpu
DIST ?= dist

# What the user has set for another Python or another virtual environment. (Another Spark's: scripts/activate.)
unexport PYTHONHOME PYTHONPATH PYTHONOPTIMIZE PIP_USER PIP_TARGET PIP_PREFIX VENV KEEP_SPARK CDPATH

.PHONY: setup lock lint format test test-cluster test-spark4 dist demo clean

setup: .venv/.complete

# The stamp is made last, so that an interrupted set-up is done again. Bytecode is compiled here, once: a child
# process imports TensorFlow in 4 s with it, in 14 s without.
.venv/.complete: requirements.lock setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$$(grep -o '^uv==[0-9.]*' requirements.lock)"
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e .
	touch $@

# Exact versions and hashes of everything, resolved by uv from setup.py and constraints.txt.
lock:
	test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
	$(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header --python-version 3.11 \
	    --constraints constraints.txt $(EXTRAS) setup.py --output-file requirements.lock
	echo "pyspark>=4,<4.1" | $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header --no-annotate \
	    --no-deps --python-version 3.11 - --output-file requirements-spark4.lock

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup
	. scripts/activate && python -m pytest -m "not cluster" $(PYTEST_ARGS)

test-cluster: setup
	. scripts/activate && python -m pytest -m cluster $(PYTEST_ARGS)

# The tests that start Spark, on Spark 4.0, which needs Java 17.
test-spark4: .venv-spark4/.complete
	VENV=.venv-spark4 && . scripts/activate && python -m pytest -m cluster $(PYTEST_ARGS)

# All as in .venv but for pyspark.
.venv-spark4/.complete: .venv/.complete requirements-spark4.lock
	$(PYTHON) -m venv --clear .venv-spark4
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python .venv-spark4/bin/python requirements.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes --no-deps --python .venv-spark4/bin/python \
	    --requirements requirements-spark4.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python .venv-spark4/bin/python -e .
	touch $@

# dist/: the wheel, and the environment that a cluster's machines unpack. `make dist EXTRA=gpu` for machines with GPUs.
dist: setup
	. scripts/activate && scripts/pack $(EXTRA) $(DIST)

# Real images to winning tickets, in demo-out/. Run it again: it continues, or says that all is done.
demo: setup
	demo/run

clean:
	rm -rf .venv .venv-spark4 build dist *.egg-info
