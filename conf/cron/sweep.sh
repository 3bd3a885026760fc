#!/bin/sh
# A sweep from cron: does what is left of it, and says nothing where all is well. Its arguments are those of
# jobs/lottery_sweep.py; conf/cron/crontab has the line that calls it.
#
#   SPARK_HOME           where the Spark is whose spark-submit it uses; by default the one on the PATH
#   LOTTERY_PROPERTIES   the properties file of spark-submit; it names the master too, and may hold the cluster's secret
#   LOTTERY_LOGS         folder of its logs, one file a day; by default ~/lottery-trellis
#
# It needs no lock: the sweep's claim on its run directory lets one work at a time. A status other than 0 and 75 (another
# sweep is at work, which is what it should be) is handed on, with the last lines of the log for cron to mail.
set -eu
export LC_ALL=C.UTF-8 # cron sets none, and in an ASCII locale spark-submit loses the other characters of its arguments
unset CDPATH
umask 077 # paths and host names are nobody else's business
: "${LOTTERY_PROPERTIES:?is not set: name the properties file of spark-submit in the crontab}"
logs=${LOTTERY_LOGS:-$HOME/lottery-trellis}
mkdir -p "$logs"
log=$(cd "$logs" && pwd)/sweep-$(date +%Y-%m-%d).log

cd "$(dirname "$0")/../.." # a checkout, or the unpacked environment of `make dist`
export KEEP_SPARK="${SPARK_HOME:-}" # with its own settings
if [ -f scripts/activate ]; then . scripts/activate; fi
submit=${SPARK_HOME:+$SPARK_HOME/bin/}spark-submit

say() { echo "$(date +%Y-%m-%dT%H:%M:%S%z) $*" >>"$log"; }

say "process $$ starts"
status=0
"$submit" --properties-file "$LOTTERY_PROPERTIES" jobs/lottery_sweep.py "$@" >>"$log" 2>&1 || status=$?
say "process $$ ends with status $status"
case $status in
    0 | 75) exit 0 ;;
    *)
        echo "the sweep ended with status $status; the end of $log:" >&2
        tail -n 10 "$log" >&2
        exit "$status"
        ;;
esac
