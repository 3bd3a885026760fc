"""conf/emr: checked against the API models of EMR and of the scheduler. No cluster is started."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from tests.platforms.properties import ROOT, path, preprocessing_options, settings

EMR = ROOT / "conf" / "emr"
SETTINGS = dict(settings(path("emr").read_text()))


def problems(service: str, operation: str, request: dict[str, Any]) -> str:
    """The API model's complaints about a request, such as an unknown field."""
    model = botocore.session.get_session().get_service_model(service).operation_model(operation)
    return str(ParamValidator().validate(request, model.input_shape).generate_report())


@pytest.fixture(scope="module")
def schedule() -> dict[str, Any]:
    command = [sys.executable, EMR / "schedule.py", "a-bucket", "subnet-1", "arn:aws:iam::123456789012:role/nightly"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def cluster(schedule: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(schedule["Target"]["Input"]))


def test_the_scheduler_takes_the_schedule(schedule: dict[str, Any]) -> None:
    assert problems("scheduler", "CreateSchedule", schedule) == ""
    assert schedule["Target"]["Arn"] == "arn:aws:scheduler:::aws-sdk:emr:runJobFlow"


def test_emr_takes_the_cluster(cluster: dict[str, Any]) -> None:
    assert problems("emr", "RunJobFlow", cluster) == ""
    assert "BUCKET" not in json.dumps(cluster)
    assert "Unknown parameter" in problems("emr", "RunJobFlow", {**cluster, "Setps": []})  # a typo would be seen


def test_a_step_is_what_the_command_line_takes(cluster: dict[str, Any]) -> None:
    steps = json.loads((EMR / "steps.json").read_text())
    assert all(step.keys() == {"Name", "Type", "Jar", "ActionOnFailure", "Args"} for step in steps)
    assert [step["Name"] for step in steps] == [step["Name"] for step in cluster["Steps"]] == ["preprocess", "sweep"]


def test_steps_run_the_jobs_with_the_properties_file(cluster: dict[str, Any]) -> None:
    for step, job in zip(cluster["Steps"], ("preprocess.py", "lottery_sweep.py"), strict=True):
        arguments = step["HadoopJarStep"]["Args"]
        files = [word for word in arguments if word.startswith("/opt/lottery-trellis/")]
        assert files[:2] == ["/opt/lottery-trellis/conf/spark/emr.conf", f"/opt/lottery-trellis/jobs/{job}"]
        for file in files:
            assert (ROOT / Path(file).relative_to("/opt/lottery-trellis")).is_file()
        parsed = subprocess.run(
            [sys.executable, ROOT / "jobs" / job, *arguments[arguments.index(files[1]) + 1 :], "--nonsense"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert parsed.stderr.startswith("error: unrecognized arguments: --nonsense;")  # and no other


def test_preprocessing_takes_no_gpu(cluster: dict[str, Any]) -> None:
    arguments = cluster["Steps"][0]["HadoopJarStep"]["Args"]
    told = dict(word.split("=") for flag, word in pairwise(arguments) if flag == "--conf")
    assert told == preprocessing_options(path("emr").read_text())


def test_there_is_a_machine_for_every_executor(cluster: dict[str, Any]) -> None:
    (core,) = [group for group in cluster["Instances"]["InstanceGroups"] if group["InstanceRole"] == "CORE"]
    assert core["InstanceCount"] == int(SETTINGS["spark.executor.instances"])


def test_the_nightly_cluster_is_that_of_the_command_line(cluster: dict[str, Any]) -> None:
    script = (EMR / "create_cluster.sh").read_text()
    assert f"--release-label {cluster['ReleaseLabel']} " in script
    assert f"--ebs-root-volume-size {cluster['EbsRootVolumeSize']} " in script
    for group in cluster["Instances"]["InstanceGroups"]:
        role, count, kind = group["InstanceRole"], group["InstanceCount"], group["InstanceType"]
        assert f"InstanceGroupType={role},InstanceCount={count},InstanceType={kind} " in script


def test_yarn_looks_for_cgroups_where_they_are_mounted(cluster: dict[str, Any]) -> None:
    found = {each["Classification"]: each for each in cluster["Configurations"]}
    site = found["yarn-site"]["Properties"]
    (cgroups,) = [each for each in found["container-executor"]["Configurations"] if each["Classification"] == "cgroups"]
    root = site["yarn.nodemanager.linux-container-executor.cgroups.mount-path"]
    assert cgroups["Properties"]["root"] == root
    assert f"cgroupv1-devices {root}/devices" in (EMR / "bootstrap.sh").read_text()
    assert found["spark-defaults"]["Properties"]["spark.dynamicAllocation.enabled"] == "false"


def test_yarn_does_not_end_executors_for_their_virtual_memory(cluster: dict[str, Any]) -> None:
    (site,) = [each for each in cluster["Configurations"] if each["Classification"] == "yarn-site"]
    assert site["Properties"]["yarn.nodemanager.vmem-check-enabled"] == "false"


def test_the_primary_machine_is_smaller_than_an_executor_and_sets_no_limit(cluster: dict[str, Any]) -> None:
    (site,) = [each for each in cluster["Configurations"] if each["Classification"] == "yarn-site"]
    assert int(site["Properties"]["yarn.scheduler.maximum-allocation-mb"]) >= (2 + 16) * 1024
    assert int(site["Properties"]["yarn.scheduler.maximum-allocation-vcores"]) >= int(SETTINGS["spark.executor.cores"])
    assert (SETTINGS["spark.executor.memory"], SETTINGS["spark.executor.memoryOverhead"]) == ("2g", "16g")


def test_the_applications_are_those_of_every_release(cluster: dict[str, Any]) -> None:
    assert cluster["Applications"] == [{"Name": "Spark"}]  # which brings YARN; emr-spark-8.0.0 has no Hadoop to name
    assert "--applications Name=Spark --" in (EMR / "create_cluster.sh").read_text()


def test_a_missing_argument_is_named() -> None:
    done = subprocess.run([sys.executable, EMR / "schedule.py"], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.startswith("error: 0 arguments; give BUCKET SUBNET ROLE")
