"""conf/dataproc: checked against the names of Dataproc's REST API and the files it names. No cluster is started."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.platforms.properties import ROOT, path, preprocessing_options, settings

DATAPROC = ROOT / "conf" / "dataproc"
SETTINGS = dict(settings(path("dataproc").read_text()))

# https://cloud.google.com/dataproc/docs/reference/rest/v1/projects.regions.workflowTemplates. For each
# message: the fields that a workflow like ours may need, with their types. A list of one is a repeated field.
STRINGS = dict  # of strings by strings
MESSAGES: dict[str, dict[str, Any]] = {
    "WorkflowTemplate": {"placement": "Placement", "jobs": ["OrderedJob"], "labels": STRINGS, "dagTimeout": str},
    "Placement": {"managedCluster": "ManagedCluster"},
    "ManagedCluster": {"clusterName": str, "config": "ClusterConfig", "labels": STRINGS},
    "ClusterConfig": {
        "configBucket": str,
        "tempBucket": str,
        "gceClusterConfig": "GceClusterConfig",
        "masterConfig": "InstanceGroupConfig",
        "workerConfig": "InstanceGroupConfig",
        "secondaryWorkerConfig": "InstanceGroupConfig",
        "softwareConfig": "SoftwareConfig",
        "initializationActions": ["NodeInitializationAction"],
    },
    "GceClusterConfig": {
        "zoneUri": str,
        "networkUri": str,
        "subnetworkUri": str,
        "internalIpOnly": bool,
        "serviceAccount": str,
        "serviceAccountScopes": [str],
        "tags": [str],
        "metadata": STRINGS,
        "shieldedInstanceConfig": "ShieldedInstanceConfig",
    },
    "ShieldedInstanceConfig": {"enableSecureBoot": bool, "enableVtpm": bool, "enableIntegrityMonitoring": bool},
    "InstanceGroupConfig": {
        "numInstances": int,
        "machineTypeUri": str,
        "diskConfig": "DiskConfig",
        "accelerators": ["AcceleratorConfig"],
        "preemptibility": str,
    },
    "DiskConfig": {"bootDiskType": str, "bootDiskSizeGb": int, "numLocalSsds": int},
    "AcceleratorConfig": {"acceleratorTypeUri": str, "acceleratorCount": int},
    "SoftwareConfig": {"imageVersion": str, "properties": STRINGS, "optionalComponents": [str]},
    "NodeInitializationAction": {"executableFile": str, "executionTimeout": str},
    "OrderedJob": {"stepId": str, "prerequisiteStepIds": [str], "labels": STRINGS, "pysparkJob": "PySparkJob"},
    "PySparkJob": {
        "mainPythonFileUri": str,
        "args": [str],
        "pythonFileUris": [str],
        "fileUris": [str],
        "archiveUris": [str],
        "properties": STRINGS,
    },
}


def problems(value: Any, kind: Any, where: str) -> list[str]:
    """The values of a message that have the wrong type, or unknown names, by path."""
    if isinstance(kind, list):
        if not isinstance(value, list):
            return [f"{where}: is no list"]
        return [line for place, each in enumerate(value) for line in problems(each, kind[0], f"{where}[{place}]")]
    if kind is STRINGS:
        return (
            [] if all(isinstance(word, str) for pair in value.items() for word in pair) else [f"{where}: not strings"]
        )
    if isinstance(kind, type):
        return [] if type(value) is kind else [f"{where}: {value!r} is no {kind.__name__}"]
    fields = MESSAGES[kind]
    unknown = [f"{where}.{name}: unknown to {kind}" for name in value if name not in fields]
    known = [name for name in value if name in fields]
    return unknown + [line for name in known for line in problems(value[name], fields[name], f"{where}.{name}")]


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return dict(YAML(typ="safe", pure=True).load(DATAPROC / "workflow-template.yaml"))


def test_every_field_is_one_of_the_apis(template: dict[str, Any]) -> None:
    assert problems(template, "WorkflowTemplate", "template") == []
    (line,) = problems({"jobs": [{"stepIdd": "sweep"}]}, "WorkflowTemplate", "template")
    assert line == "template.jobs[0].stepIdd: unknown to OrderedJob"


def test_jobs_have_the_properties_of_the_file(template: dict[str, Any]) -> None:
    preprocess, sweep = (job["pysparkJob"]["properties"] for job in template["jobs"])
    assert sweep == SETTINGS
    assert preprocess == {**SETTINGS, **preprocessing_options(path("dataproc").read_text())}


def test_jobs_are_those_of_the_archive(template: dict[str, Any]) -> None:
    assert [job["stepId"] for job in template["jobs"]] == ["preprocess", "sweep"]
    assert template["jobs"][1]["prerequisiteStepIds"] == ["preprocess"]
    for job in template["jobs"]:
        script = job["pysparkJob"]["mainPythonFileUri"].removeprefix("file:///opt/lottery-trellis/")
        arguments = job["pysparkJob"]["args"]
        for file in (script, *(word for word in arguments if word.startswith("/"))):
            assert (ROOT / file.removeprefix("/opt/lottery-trellis/")).is_file()
        parsed = subprocess.run(
            [sys.executable, ROOT / script, *arguments, "--nonsense"], capture_output=True, text=True, check=False
        )
        assert parsed.stderr.startswith("error: unrecognized arguments: --nonsense;")  # and no other


def test_there_is_a_machine_with_a_gpu_for_every_executor(template: dict[str, Any]) -> None:
    config = template["placement"]["managedCluster"]["config"]
    assert config["workerConfig"]["numInstances"] == int(SETTINGS["spark.executor.instances"])
    (gpu,) = config["workerConfig"]["accelerators"]
    assert gpu["acceleratorCount"] == 1
    assert config["softwareConfig"]["imageVersion"].startswith("2.3-")  # the GPU action refuses Spark 4, as in 3.0
    assert config["gceClusterConfig"]["internalIpOnly"] is True


def test_the_gpu_action_can_install_its_driver(template: dict[str, Any]) -> None:
    config = template["placement"]["managedCluster"]["config"]
    machines = config["gceClusterConfig"]
    assert machines["shieldedInstanceConfig"] == {"enableSecureBoot": False}  # else it ends: the driver is not signed
    assert machines["metadata"]["rapids-runtime"] != "SPARK"
    assert machines["metadata"]["install-gpu-agent"] == "false"
    assert re.fullmatch(r"12\.\d\.\d", machines["metadata"]["cuda-version"])
    assert config["initializationActions"][0]["executionTimeout"] == "5400s"  # as in Google's tests of it


def test_yarn_does_not_end_executors_for_their_virtual_memory(template: dict[str, Any]) -> None:
    software = template["placement"]["managedCluster"]["config"]["softwareConfig"]
    assert software["properties"] == {"yarn:yarn.nodemanager.vmem-check-enabled": "false"}


def test_gcloud_reads_the_properties_file_as_spark_does() -> None:
    read = YAML(typ="safe", pure=True).load(path("dataproc").read_text().strip().replace("=", ": "))  # as gcloud does
    assert {name: as_text(value) for name, value in read.items()} == SETTINGS


def as_text(value: Any) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def test_the_command_by_hand_gives_every_property_as_text() -> None:
    (option,) = re.findall(r"^#   --properties (.+)$", path("dataproc").read_text(), re.MULTILINE)
    done = subprocess.run(["bash", "-c", f"echo {option}"], cwd=ROOT, capture_output=True, text=True, check=True)
    delimiter, text = done.stdout.rstrip("\n").removeprefix("^").split("^", 1)  # as `gcloud topic escaping` says
    assert dict(pair.split("=", 1) for pair in text.split(delimiter)) == SETTINGS


def test_the_initialisation_reads_the_metadata_that_the_workflow_sets(template: dict[str, Any]) -> None:
    config = template["placement"]["managedCluster"]["config"]
    names = [Path(action["executableFile"]).name for action in config["initializationActions"]]
    assert names == ["install_gpu_driver.sh", "initialize.sh"]
    script = (DATAPROC / "initialize.sh").read_text()
    assert "attributes/lottery-trellis-archive" in script
    assert config["gceClusterConfig"]["metadata"]["lottery-trellis-archive"].endswith("/lottery-trellis-env.tar.gz")


@pytest.mark.parametrize(("there", "verb"), [(0, "update"), (1, "create")])
def test_scheduling_names_the_workflow_and_stores_no_token(tmp_path: Path, there: int, verb: str) -> None:
    stub = tmp_path / "gcloud"
    stub.write_text(
        f'#!/bin/sh\n[ "$2" = jobs ] || cat >>{tmp_path}/template\n'
        f'echo "$@" >>{tmp_path}/calls\n[ "$3" != describe ] || exit {there}\n'
    )
    stub.chmod(0o755)
    command = [DATAPROC / "schedule.sh", "a-project", "europe-west4", "a-bucket", "nightly@a-project"]
    subprocess.run(command, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, check=True)
    made, looked, scheduled = (tmp_path / "calls").read_text().splitlines()
    assert looked.startswith("scheduler jobs describe lottery-trellis --project a-project")
    assert scheduled.startswith(f"scheduler jobs {verb} http lottery-trellis --project a-project")
    assert made.startswith("dataproc workflow-templates import lottery-trellis --project a-project")
    assert "/v1/projects/a-project/regions/europe-west4/workflowTemplates/lottery-trellis:instantiate" in scheduled
    assert "--oauth-service-account-email nightly@a-project" in scheduled
    text = (tmp_path / "template").read_text()
    assert "gs://a-bucket/runs" in text
    assert "BUCKET" not in text.split("\n\n", 1)[1]
