#!/bin/bash
# Initialisation action for every machine of a Dataproc 2.3 cluster; it runs after the one that installs the GPU driver.
# The cluster's metadata `lottery-trellis-archive` says where lottery-trellis-env.tar.gz is.
set -euo pipefail
archive=$(/usr/share/google/get_metadata_value attributes/lottery-trellis-archive)
target=/opt/lottery-trellis

mkdir -p "$target"
gcloud storage cat "$archive" | tar --extract --gzip --directory "$target"
"$target/use_python.sh"
# If the environment does not work on this machine, fail now, while the cluster starts, and not later in a sweep.
"$target/bin/python" -c 'import preprocessing.images.decode, tensorflow'
