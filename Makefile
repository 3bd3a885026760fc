# Every target sets up first. `make demo` is the whole suite on real images; `make test` runs the tests.
PYTHON ?= python3.11
BIN := .venv/bin
EXTRAS := --extra cpu --extra demo --extra bench --extra dev

EXTRA ?= cpu
DIST ?= dist

# Variables meant for another Python or virtual environment. (scripts/activate unsets those for another Spark.)
unexport PYTHONHOME PYTHONPATH PYTHONOPTIMIZE PIP_USER PIP_TARGET PIP_PREFIX VENV KEEP_SPARK CDPATH

.PHONY: setup lock lint format test test-cluster test-yarn hadoop test-spark4 dist demo clean

setup: .venv/.complete

# The stamp comes last, so that an interrupted set-up starts over. Bytecode is compiled here, once: with it a child
# process imports TensorFlow in 4 s, without it in 14 s.
.venv/.complete: requirements.lock setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet "$$(grep -o '^uv==[0-9.]*' requirements.lock)"
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e .
	touch $@

# Exact versions and hashes of everything; uv resolves them from setup.py and constraints.txt.
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
	. scripts/activate && python -m pytest -m "not cluster and not yarn" $(PYTEST_ARGS)

test-cluster: setup
	. scripts/activate && python -m pytest -m cluster $(PYTEST_ARGS)

# On a Hadoop of its own, YARN and HDFS, on this machine's loopback.
test-yarn: hadoop
	. scripts/activate && python -m pytest -m yarn $(PYTEST_ARGS)

# Hadoop's daemons in one jar, of the version of the client in pyspark.
hadoop: setup
	@command -v mvn >/dev/null || { echo "error: no Maven (mvn) on the PATH: apt-get install maven" >&2; exit 2; }
	version=$$(ls .venv/lib/python3*/site-packages/pyspark/jars | sed -n 's/^hadoop-client-api-\(.*\)\.jar$$/\1/p') && \
	    jar=hadoop-client-minicluster-$$version.jar && mkdir -p .hadoop && { test -f .hadoop/$$jar || \
	    timeout 300 mvn --batch-mode --quiet dependency:copy -DoutputDirectory=.hadoop \
	        -Dartifact=org.apache.hadoop:hadoop-client-minicluster:$$version; } && test -f .hadoop/$$jar

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
	rm -rf .venv .venv-spark4 .hadoop build dist *.egg-info
