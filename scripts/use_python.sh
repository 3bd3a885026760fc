#!/bin/sh
# Points the environment that holds this script at a Python 3.11 of this machine: use_python.sh [PYTHON]
#
# Without PYTHON it takes the first one on the PATH, or where EMR and Dataproc have theirs. A packed environment holds no
# interpreter, only links to the one that it was made with; on other machines that may be elsewhere.
set -eu
unset CDPATH
env=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/local/bin:/usr/bin:/opt/conda/default/bin
python=${1:-$(command -v python3.11 || true)}
found=$("${python:-false}" -c 'import os, sys; print(*sys.version_info[:2], os.path.realpath(sys.executable))' || true)
case $found in
    "3 11 "*) python=${found#3 11 } ;;
    *)
        echo "error: python3.11: ${python:-none} is no Python 3.11 that runs here; install one, or give its path as argument" >&2
        exit 2
        ;;
esac
ln -sfn "$python" "$env/bin/python"
sed -i "s|^home = .*|home = $(dirname "$python")|" "$env/pyvenv.cfg"
