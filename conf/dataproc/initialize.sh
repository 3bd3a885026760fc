#!/bin/bash
# Initialisation action of every machine of a Dataproc 2.3 cluster, after the one that installs the GPU's driver.
# The cluster's metadata `lottery-trellis-archive` says where lottery-trellis-env.tar.gz is.
set -euo pipefail
archive=$(/usr/share/google/get_metadata_value attributes/lottery-trellis-archive)
target=/opt/lottery-trellis

mkdir -p "$target"
gcloud storage cat "$archive" | tar --extract --gzip --directory "$target"
"$target/use_python.sh"
# A machine on which the environment does not work ends the cluster's start here, not a sweep later.
"$target/bin/python" -c 'import preprocessing.images.decode, tensorflow'
