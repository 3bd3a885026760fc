#!/bin/sh
# Starts a cluster that runs the steps of steps.json and then ends: conf/emr/create_cluster.sh BUCKET SUBNET
#
# BUCKET holds lottery-trellis-env.tar.gz and bootstrap.sh; data, runs and logs are written to it. SUBNET is a subnet-...
# This script uses the aws command line's credentials, and the machines those of their instance profile.
set -eu
bucket=$1
subnet=$2
cd "$(dirname "$0")"
steps=$(mktemp)
trap 'rm -f "$steps"' EXIT
sed "s/BUCKET/$bucket/g" steps.json >"$steps"
# The environment takes 7 GB of the root volume. There must be as many core machines as spark.executor.instances in
# conf/spark/emr.conf says; conf/emr/schedule.py starts the same cluster. Spark brings YARN along: an application Hadoop
# exists in releases emr-7, and no longer in emr-spark-8.0.0.
aws emr create-cluster --name lottery-trellis --release-label emr-7.10.0 \
    --applications Name=Spark --configurations file://configurations.json \
    --use-default-roles --ec2-attributes "SubnetId=$subnet" --ebs-root-volume-size 50 \
    --instance-groups \
    InstanceGroupType=MASTER,InstanceCount=1,InstanceType=m5.xlarge \
    InstanceGroupType=CORE,InstanceCount=4,InstanceType=g5.2xlarge \
    --bootstrap-actions "Path=s3://$bucket/bootstrap.sh,Args=[s3://$bucket/lottery-trellis-env.tar.gz]" \
    --log-uri "s3://$bucket/logs/" --steps "file://$steps" --auto-terminate
