#!/bin/sh
# Imports the workflow of workflow-template.yaml, and has Cloud Scheduler run it every night:
# conf/dataproc/schedule.sh PROJECT REGION BUCKET SERVICE_ACCOUNT
#
# BUCKET holds what docs/clusters.md puts there. SERVICE_ACCOUNT must be allowed to instantiate workflows; Cloud
# Scheduler makes its tokens, and none is stored. To run the workflow once:
# gcloud dataproc workflow-templates instantiate lottery-trellis --region REGION
set -eu
project=$1
region=$2
bucket=$3
account=$4
cd "$(dirname "$0")"
sed "s/BUCKET/$bucket/g" workflow-template.yaml |
    gcloud dataproc workflow-templates import lottery-trellis --project "$project" --region "$region" --quiet
job() {
    gcloud scheduler jobs "$1" http lottery-trellis --project "$project" --location "$region" \
        --schedule "0 22 * * *" --time-zone Etc/UTC --http-method POST \
        --uri "https://dataproc.googleapis.com/v1/projects/$project/regions/$region/workflowTemplates/lottery-trellis:instantiate" \
        --oauth-service-account-email "$account"
}
# The job exists if this script was run before.
if gcloud scheduler jobs describe lottery-trellis --project "$project" --location "$region" >/dev/null 2>&1; then
    job update
else
    job create
fi
