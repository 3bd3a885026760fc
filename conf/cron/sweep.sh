#!/bin/sh
# Runs a sweep from cron. It picks up where it left off, and prints nothing if all is well. The arguments are those of
# jobs/lottery_sweep.py; conf/cron/crontab has the line that calls this script.
#
#   SPARK_HOME           the Spark to use; by default the spark-submit on the PATH
#   LOTTERY_PROPERTIES   spark-submit's properties file; it must name the master, and may hold the cluster's secret
#   HADOOP_CONF_DIR      on YARN or with hdfs://: the folder with the cluster's settings
#   LOTTERY_LOGS         folder for the logs, one file per day; by default ~/lottery-trellis
#
# No lock is needed: the sweep claims its run directory, so only one works at a time. Status 75 (another sweep is at
# work) is as good as 0. Any other status is passed on, with the last lines of the log for cron to mail.
set -eu
export LC_ALL=C.UTF-8 # cron sets none, and in an ASCII locale spark-submit loses non-ASCII characters of its arguments
unset CDPATH
umask 077 # logs hold paths and host names
: "${LOTTERY_PROPERTIES:?is not set: name the properties file of spark-submit in the crontab}"
logs=${LOTTERY_LOGS:-$HOME/lottery-trellis}
mkdir -p "$logs"
log=$(cd "$logs" && pwd)/sweep-$(date +%Y-%m-%d).log

cd "$(dirname "$0")/../.." # a checkout, or the unpacked environment of `make dist`
export KEEP_SPARK="${SPARK_HOME:-}" # scripts/activate leaves this Spark and its settings alone
# The driver's Python is the one here. On YARN the properties file names that of the containers, ./env/bin/python.
python=$PWD/bin/python
if [ -f scripts/activate ]; then
    . scripts/activate
    python=$VIRTUAL_ENV/bin/python
fi
submit=${SPARK_HOME:+$SPARK_HOME/bin/}spark-submit

say() { echo "$(date +%Y-%m-%dT%H:%M:%S%z) $*" >>"$log"; }

say "process $$ starts"
status=0
"$submit" --properties-file "$LOTTERY_PROPERTIES" --conf "spark.pyspark.driver.python=$python" \
    jobs/lottery_sweep.py "$@" >>"$log" 2>&1 || status=$?
say "process $$ ends with status $status"
case $status in
    0 | 75) exit 0 ;;
    *)
        echo "the sweep ended with status $status; the end of $log:" >&2
        tail -n 10 "$log" >&2
        exit "$status"
        ;;
esac
