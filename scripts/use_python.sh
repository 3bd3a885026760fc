#!/bin/sh
# Points the environment that this script lies in at a Python 3.11 of this machine: use_python.sh [PYTHON]
#
# Without PYTHON, at the first that is found on the PATH or where EMR and Dataproc have theirs. A packed environment holds
# no interpreter of its own, only links to the one that it was made with, which other machines may have elsewhere.
set -eu
unset CDPATH
env=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/local/bin:/usr/bin:/opt/conda/default/bin
python=${1:-$(command -v python3.11 || true)}
found=$("${python:-false}" -c 'import os, sys; print(*sys.version_info[:2], os.path.realpath(sys.executable))' || true)
case $found in
    "3 11 "*) python=${found#3 11 } ;;
    *)
        echo "error: python3.11: ${python:-none} is no Python 3.11 that runs here; install one, or name it as argument" >&2
        exit 2
        ;;
esac
ln -sfn "$python" "$env/bin/python"
sed -i "s|^home = .*|home = $(dirname "$python")|" "$env/pyvenv.cfg"
