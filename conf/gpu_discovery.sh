#!/bin/sh
# Tells Spark this machine's GPUs, for spark.executor.resource.gpu.discoveryScript. Asked anew each time: no cache.
#
# UUIDs, not indices: they mean the same to every process, and CUDA_VISIBLE_DEVICES takes them. Where a GPU is
# partitioned (MIG), its instances are listed in its place, since the whole can then not be used.
set -eu
nvidia-smi -L | awk '
    /^GPU / { if (whole != "") list[++count] = whole; whole = uuid($0) }
    /^ +MIG / { list[++count] = uuid($0); whole = "" }
    END {
        if (whole != "") list[++count] = whole
        printf "{\"name\": \"gpu\", \"addresses\": ["
        for (place = 1; place <= count; place++) printf("%s\"%s\"", (place > 1 ? ", " : ""), list[place])
        print "]}"
    }
    function uuid(line) { sub(/.*UUID: /, "", line); sub(/\).*/, "", line); return line }'
