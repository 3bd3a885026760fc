#!/bin/bash
# Bootstrap action for every machine of an EMR 7 cluster: bootstrap.sh s3://BUCKET/lottery-trellis-env.tar.gz
set -euo pipefail
archive=$1
target=/opt/lottery-trellis

# EMR's own python3 is 3.9.
command -v python3.11 >/dev/null || sudo dnf install --assumeyes python3.11
sudo mkdir -p "$target"
aws s3 cp "$archive" - | sudo tar --extract --gzip --directory "$target"
sudo "$target/use_python.sh"
# If the environment does not work on this machine, fail now, while the cluster starts, and not later in a sweep.
"$target/bin/python" -c 'import preprocessing.images.decode, tensorflow'

# YARN uses cgroups version 1 to keep a container away from other containers' GPUs. EMR 7 does not mount them.
# configurations.json tells YARN to look for them here.
sudo mkdir -p /yarn-cgroup/devices
sudo mount -t cgroup -o devices cgroupv1-devices /yarn-cgroup/devices
sudo chmod -R a+rwx /yarn-cgroup
