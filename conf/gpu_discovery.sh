#!/bin/sh
# Lists this machine's GPUs for Spark, as spark.executor.resource.gpu.discoveryScript. It looks each time, with no cache.
#
# It prints UUIDs, not indices: they mean the same to every process, and CUDA_VISIBLE_DEVICES accepts them. If a GPU is
# partitioned (MIG), its instances are listed instead, because the whole GPU cannot be used then.
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
