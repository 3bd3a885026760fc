# Every target sets up first. `make demo` is the whole suite on real images; `make test` runs the tests.
PYTHON ?= python3.11
BIN := .venv/bin
EXTRAS := --extra cpu --extra demo --extra bench --extra dev
LOCK := $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header

EXTRA ?= cpu
DIST ?= dist

# Variables meant for another Python or virtual environment. (scripts/activate unsets those for another Spark.)
unexport PYTHONHOME PYTHONPATH PYTHONOPTIMIZE PIP_USER PIP_TARGET PIP_PREFIX VENV KEEP_SPARK CDPATH

.PHONY: setup lock lint format test test-petastorm test-cluster test-spark4 dist demo clean

setup: .venv/.complete

# The stamp comes last, so that an interrupted set-up starts over. Bytecode is compiled here, once: with it a child
# process imports TensorFlow in 4 s, without it in 14 s.
.venv/.complete: requirements.lock setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$$(grep -o '^uv==[0-9.]*' requirements.lock)"
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e .
	touch $@

# Exact versions and hashes of everything, for each Python that setup.py allows; uv resolves them from setup.py and
# constraints.txt. petastorm's environment has the oldest versions that setup.py allows, so that they are tested, too.
lock:
	test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && $(BIN)/python -m pip install --quiet uv; }
	$(LOCK) --universal --python-version 3.11 --constraints constraints.txt $(EXTRAS) setup.py \
	    --output-file requirements.lock
	$(LOCK) --resolution lowest-direct --python-version 3.11 $(EXTRAS) --extra petastorm setup.py \
	    --output-file requirements-petastorm.lock
	echo "pyspark>=4,<4.1" | $(LOCK) --no-annotate --no-deps --python-version 3.11 - \
	    --output-file requirements-spark4.lock

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup
	. scripts/activate && python -m pytest -m "not cluster and not petastorm" $(PYTEST_ARGS)

# The same tests on the oldest versions that setup.py allows, and those that read with petastorm, which needs them.
test-petastorm: .venv-petastorm/.complete
	VENV=.venv-petastorm && . scripts/activate && python -m pytest -m "not cluster" $(PYTEST_ARGS)

.venv-petastorm/.complete: .venv/.complete requirements-petastorm.lock
	$(BIN)/uv venv --quiet --clear --python 3.11 .venv-petastorm
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python .venv-petastorm/bin/python \
	    requirements-petastorm.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python .venv-petastorm/bin/python -e .
	touch $@

test-cluster: setup
	. scripts/activate && python -m pytest -m cluster $(PYTEST_ARGS)

# The tests that start Spark, on Spark 4.0, which needs Java 17.
test-spark4: .venv-spark4/.complete
	VENV=.venv-spark4 && . scripts/activate && python -m pytest -m cluster $(PYTEST_ARGS)

# The same as .venv except for pyspark.
.venv-spark4/.complete: .venv/.complete requirements-spark4.lock
	$(PYTHON) -m venv --clear .venv-spark4
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python .venv-spark4/bin/python requirements.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes --no-deps --python .venv-spark4/bin/python \
	    --requirements requirements-spark4.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python .venv-spark4/bin/python -e .
	touch $@

# Into dist/: the wheel, and the environment that a cluster's machines unpack. For GPUs: `make dist EXTRA=gpu`.
dist: setup
	. scripts/activate && scripts/pack $(EXTRA) $(DIST)

# From real images to winning tickets, in demo-out/. Run again, it picks up where it left off, or says that all is done.
demo: setup
	demo/run

clean:
	rm -rf .venv .venv-petastorm .venv-spark4 build dist *.egg-info
