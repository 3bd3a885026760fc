#!/bin/sh
# A cluster that does the steps of steps.json and ends: conf/emr/create_cluster.sh BUCKET SUBNET
#
# BUCKET holds lottery-trellis-env.tar.gz and bootstrap.sh, and gets data, runs and logs. SUBNET is a subnet-...
# Credentials are those of the aws command line; the machines have those of their instance profile.
set -eu
bucket=$1
subnet=$2
cd "$(dirname "$0")"
steps=$(mktemp)
trap 'rm -f "$steps"' EXIT
sed "s/BUCKET/$bucket/g" steps.json >"$steps"
# The environment takes 7 GB of the root volume. As many core machines as spark.executor.instances in conf/spark/emr.conf; conf/emr/schedule.py asks for the same.
aws emr create-cluster --name lottery-trellis --release-label emr-7.10.0 \
    --applications Name=Hadoop Name=Spark --configurations file://configurations.json \
    --use-default-roles --ec2-attributes "SubnetId=$subnet" --ebs-root-volume-size 50 \
    --instance-groups \
    InstanceGroupType=MASTER,InstanceCount=1,InstanceType=m5.xlarge \
    InstanceGroupType=CORE,InstanceCount=4,InstanceType=g5.2xlarge \
    --bootstrap-actions "Path=s3://$bucket/bootstrap.sh,Args=[s3://$bucket/lottery-trellis-env.tar.gz]" \
    --log-uri "s3://$bucket/logs/" --steps "file://$steps" --auto-terminate
