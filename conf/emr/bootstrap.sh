#!/bin/bash
# Bootstrap action of every machine of an EMR 7 cluster: bootstrap.sh s3://BUCKET/lottery-trellis-env.tar.gz
set -euo pipefail
archive=$1
target=/opt/lottery-trellis

# EMR's own python3 is a 3.9.
command -v python3.11 >/dev/null || sudo dnf install --assumeyes python3.11
sudo mkdir -p "$target"
aws s3 cp "$archive" - | sudo tar --extract --gzip --directory "$target"
sudo "$target/use_python.sh"
# A machine on which the environment does not work ends the cluster's start here, not a sweep later.
"$target/bin/python" -c 'import preprocessing.images.decode, tensorflow'

# YARN keeps a container from the GPUs of others by version 1 of the cgroups, which EMR 7 does not mount; where it looks
# for it is in configurations.json.
sudo mkdir -p /yarn-cgroup/devices
sudo mount -t cgroup -o devices cgroupv1-devices /yarn-cgroup/devices
sudo chmod -R a+rwx /yarn-cgroup
