#!/bin/sh
# Points the environment that holds this script at a Python of this machine: use_python.sh [PYTHON]
#
# PYTHON must be of the version that the environment was packed for, such as 3.11. Without it, the first such Python on
# the PATH is taken, or where EMR and Dataproc have theirs. A packed environment holds no interpreter, only links to the
# one that it was made with; on other machines that may be elsewhere.
set -eu
unset CDPATH
env=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^version_info = \([0-9]*\.[0-9]*\).*/\1/p' "$env/pyvenv.cfg")
PATH=$PATH:/usr/local/bin:/usr/bin:/opt/conda/default/bin
python=${1:-$(command -v "python$version" || command -v python3 || true)}
found=$("${python:-false}" -c 'import os, sys; print("%d.%d" % sys.version_info[:2], os.path.realpath(sys.executable))' || true)
case $found in
    "$version "*) python=${found#* } ;;
    *)
        echo "error: python$version: ${python:-none} is no Python $version that runs here; install one, or give its path as argument" >&2
        exit 2
        ;;
esac
ln -sfn "$python" "$env/bin/python"
sed -i "s|^home = .*|home = $(dirname "$python")|" "$env/pyvenv.cfg"
