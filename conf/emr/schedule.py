"""Prints the input for `aws scheduler create-schedule --cli-input-json`: the cluster of create_cluster.sh, every night.

conf/emr/schedule.py BUCKET SUBNET ROLE [EXPRESSION] > schedule.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NIGHTLY = "cron(0 22 * * ? *)"  # UTC


def run_job_flow(bucket: str, subnet: str) -> dict[str, Any]:
    """A request to EMR's RunJobFlow."""
    steps = json.loads((HERE / "steps.json").read_text().replace("BUCKET", bucket))
    group = {"Market": "ON_DEMAND", "InstanceCount": 1, "InstanceRole": "MASTER", "InstanceType": "m5.xlarge"}
    return {
        "Name": "lottery-trellis",
        "ReleaseLabel": "emr-7.10.0",
        "LogUri": f"s3://{bucket}/logs/",
        "Applications": [{"Name": "Spark"}],
        "Configurations": json.loads((HERE / "configurations.json").read_text()),
        "ServiceRole": "EMR_DefaultRole",
        "JobFlowRole": "EMR_EC2_DefaultRole",
        "EbsRootVolumeSize": 50,
        "Instances": {
            "Ec2SubnetId": subnet,
            "KeepJobFlowAliveWhenNoSteps": False,
            "InstanceGroups": [
                group,
                {**group, "InstanceCount": 4, "InstanceRole": "CORE", "InstanceType": "g5.2xlarge"},
            ],
        },
        "BootstrapActions": [
            {
                "Name": "lottery-trellis",
                "ScriptBootstrapAction": {
                    "Path": f"s3://{bucket}/bootstrap.sh",
                    "Args": [f"s3://{bucket}/lottery-trellis-env.tar.gz"],
                },
            }
        ],
        "Steps": [
            {
                "Name": step["Name"],
                "ActionOnFailure": step["ActionOnFailure"],
                "HadoopJarStep": {"Jar": step["Jar"], "Args": step["Args"]},
            }
            for step in steps
        ],
    }


def schedule(bucket: str, subnet: str, role: str, expression: str = NIGHTLY) -> dict[str, Any]:
    """A request to EventBridge Scheduler's CreateSchedule. `role` may run job flows and pass EMR's two roles."""
    return {
        "Name": "lottery-trellis",
        "ScheduleExpression": expression,
        "FlexibleTimeWindow": {"Mode": "OFF"},
        "Target": {
            "Arn": "arn:aws:scheduler:::aws-sdk:emr:runJobFlow",
            "RoleArn": role,
            "Input": json.dumps(run_job_flow(bucket, subnet)),
            # If no cluster was available, try again the next night.
            "RetryPolicy": {"MaximumRetryAttempts": 0},
        },
    }


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(
            f"error: {len(sys.argv) - 1} arguments; give BUCKET SUBNET ROLE, and an expression such as '{NIGHTLY}'"
        )
    print(json.dumps(schedule(*sys.argv[1:]), indent=2))
