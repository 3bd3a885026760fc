# Every target sets up first. `make demo` is the whole suite on real images; `make test` runs the tests.
# PYTHON names the Python to use, or is `uv`; without it scripts/find_python looks for one.
PYTHON ?=
BIN := .venv/bin
EXTRAS := --extra cpu --extra demo --extra bench --extra dev
LOCK := $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-header --universal --python-version 3.11

# The Sparks that `make lock` locks besides the one in requirements.lock, the newest last.
SPARKS := 4.0 4.3
SPARK ?= $(lastword $(SPARKS))

EXTRA ?= cpu
DIST ?= dist

# If the home directory cannot be written, uv does without its cache.
UV_CACHE := $${UV_CACHE_DIR:-$${XDG_CACHE_HOME:-$${HOME:-/dev/null}/.cache}/uv}
ifneq ($(shell mkdir -p "$(UV_CACHE)" 2>/dev/null && test -w "$(UV_CACHE)" && echo yes),yes)
export UV_NO_CACHE := 1
endif

# Variables meant for another Python or virtual environment. (scripts/activate unsets those for another Spark.)
unexport PYTHONHOME PYTHONPATH PYTHONOPTIMIZE PIP_USER PIP_TARGET PIP_PREFIX VENV KEEP_SPARK CDPATH

.PHONY: setup lock lint format test test-petastorm test-cluster test-yarn hadoop test-spark test-yarn-spark test-fresh \
    dist demo science clean

# It stops if PYTHON asks for another version than .venv has.
setup: .venv/.complete
ifneq ($(PYTHON),)
	@scripts/find_python "$(PYTHON)" .venv >/dev/null
endif

# A .venv whose Python is gone, as after a system upgrade, is set up anew.
ifneq ($(shell test -x .venv/bin/python && echo yes),yes)
.PHONY: .venv/.complete .venv/bin/uv
endif

# The stamp comes last, so that an interrupted set-up starts over. Bytecode is compiled here, once: with it a child
# process imports TensorFlow in 4 s, without it in 14 s.
.venv/.complete: requirements.lock setup.py
	@python=$$(scripts/find_python "$(PYTHON)") && "$$python" -m venv --clear .venv
	$(BIN)/python -m pip install --quiet "$$(grep -o '^uv==[0-9.]*' requirements.lock)"
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python $(BIN)/python requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python $(BIN)/python -e .
	touch $@

# Exact versions and hashes of everything, for each Python and processor that setup.py allows; uv resolves them from
# setup.py and constraints.txt. petastorm's environment has the oldest versions that setup.py allows, so that they are
# tested, too.
lock: .venv/bin/uv
	$(LOCK) --constraints constraints.txt $(EXTRAS) setup.py --output-file requirements.lock
	$(LOCK) --project tests/petastorm --resolution lowest-direct $(EXTRAS) --extra petastorm \
	    setup.py --output-file requirements-petastorm.lock
	for spark in $(SPARKS); do echo "pyspark==$$spark.*" | $(LOCK) --no-annotate - \
	    --output-file requirements-spark-$$spark.lock || exit; done

# Any version: there may be no lock yet to name one.
.venv/bin/uv:
	@python=$$(scripts/find_python "$(PYTHON)") && "$$python" -m venv --clear .venv
	$(BIN)/python -m pip install --quiet uv

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup
	. scripts/activate && python -m pytest -m "not cluster and not petastorm and not yarn" $(PYTEST_ARGS)

# The same tests on the oldest versions that setup.py allows, and those that read with petastorm, which needs them.
test-petastorm: .venv-petastorm/.complete
	VENV=.venv-petastorm && . scripts/activate && python -m pytest -m "not cluster and not yarn" $(PYTEST_ARGS)

.venv-petastorm/.complete: .venv/.complete requirements-petastorm.lock
	@$(BIN)/uv venv --quiet --clear --python 3.11 .venv-petastorm || { echo "error: petastorm needs Python 3.11:" \
	    "there is none on the PATH, and uv could not fetch it, for the reason above; install python3.11" >&2; exit 2; }
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python .venv-petastorm/bin/python \
	    requirements-petastorm.lock
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python .venv-petastorm/bin/python -e .
	touch $@

test-cluster: setup
	. scripts/activate && python -m pytest -m cluster $(PYTEST_ARGS)

# On a Hadoop of its own, YARN and HDFS, on this machine's loopback.
test-yarn: hadoop
	. scripts/activate && python -m pytest -m yarn $(PYTEST_ARGS)

# Hadoop's daemons, of the version of the client in pyspark.
hadoop: VENV := .venv
hadoop: setup
	@for tool in mvn javac; do command -v $$tool >/dev/null || \
	    { echo "error: no $$tool on the PATH; try: apt-get install maven default-jdk-headless" >&2; exit 2; }; done
	@jars=$$(echo $(VENV)/lib/python3*/site-packages/pyspark/jars) && \
	    version=$$(ls $$jars | sed -n 's/^hadoop-client-api-\(.*\)\.jar$$/\1/p') && folder=.hadoop/$$version && \
	    { test $$folder/.complete -nt tests/hadoop/pom.xml && \
	      test $$folder/.complete -nt tests/hadoop/QuickLocalFs.java; } || \
	    { timeout 300 mvn --batch-mode --quiet --file tests/hadoop/pom.xml dependency:copy-dependencies \
	        -DoutputDirectory="$$PWD/$$folder" -Dhadoop.version=$$version && \
	      javac -cp "$$jars/*" -d $$folder tests/hadoop/QuickLocalFs.java && touch $$folder/.complete; }

# The tests that start Spark, on another version of it: `make test-spark SPARK=4.0`. Spark 4 needs a Java of the
# machine's own.
test-spark: setup .venv-spark-$(SPARK)/.complete
	VENV=.venv-spark-$(SPARK) && . scripts/activate && python -m pytest -m cluster $(PYTEST_ARGS)

# Both jobs on YARN and HDFS, on another version of Spark and of its Hadoop: `make test-yarn-spark SPARK=4.0`.
test-yarn-spark: setup .venv-spark-$(SPARK)/.complete
	$(MAKE) hadoop VENV=.venv-spark-$(SPARK)
	VENV=.venv-spark-$(SPARK) && . scripts/activate && python -m pytest -m yarn $(PYTEST_ARGS)

# The same as .venv except for pyspark: the version that is locked, or else the newest release of it.
.venv-spark-%/.complete: .venv/.complete $(wildcard requirements-spark-*.lock)
	$(BIN)/python -m venv --clear .venv-spark-$*
	$(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes --python .venv-spark-$*/bin/python requirements.lock
	if [ -f requirements-spark-$*.lock ]; then set -- --require-hashes --requirements requirements-spark-$*.lock; \
	    else set -- "pyspark==$*.*"; fi; \
	    $(BIN)/uv pip install --quiet --compile-bytecode --python .venv-spark-$*/bin/python "$$@"
	$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --python .venv-spark-$*/bin/python -e .
	touch $@

# The two commands of the README on a fresh Debian 13, made in a folder and removed afterwards. Needs root.
test-fresh:
	tests/fresh/run

# Into dist/: the wheel, and the environment that a cluster's machines unpack, for machines with the version of PYTHON.
# For GPUs: `make dist EXTRA=gpu`.
dist: .venv/.complete
	. scripts/activate && scripts/pack $(EXTRA) "$(DIST)" "$(PYTHON)"

# From real images to winning tickets, in demo-out/. Run again, it picks up where it left off, or says that all is done.
demo: setup
	demo/run

# Known answers about lottery tickets, found again on Fashion-MNIST, in science-out/: about 20 minutes on two cores. FASHION
# is the folder of its four files, if Debian's package is not installed. `make science SCIENCE_ARGS=--smoke` tries all of
# it in minutes; then name another folder, too: --output smoke-out.
science: setup
	. scripts/activate && python -m science $(if $(FASHION),--fashion "$(FASHION)") $(SCIENCE_ARGS)

clean:
	rm -rf .venv .venv-petastorm .venv-spark-* .hadoop build dist *.egg-info
