"""The Job and the CronJob that train and publish better versions."""

from typing import Any

import pytest
from helm_chart import Manifest, component, pick, refusal, render, training_job

DIGEST = "sha256:" + "3" * 64


def values(**training: Any) -> dict[str, Any]:
    return {
        "models": {"source": "pvc", "pvc": {"claimName": "models", "subPath": "production"}},
        "server": {"settings": {"model_control_mode": "poll"}},
        "training": {"enabled": True, **training},
    }


def job(**training: Any) -> Manifest:
    return training_job(values(**training))


def containers(**training: Any) -> tuple[Manifest, Manifest]:
    """Returns the containers that train and publish."""
    spec = job(**training)["spec"]["template"]["spec"]
    (train,), (publish,) = spec["initContainers"], spec["containers"]
    return train, publish


def volumes(**training: Any) -> dict[str, Manifest]:
    return {each.pop("name"): each for each in job(**training)["spec"]["template"]["spec"]["volumes"]}


def test_nothing_trains_by_default() -> None:
    assert not [each for each in render() if component(each) == "training"]


def test_it_trains_and_then_publishes_what_is_better() -> None:
    train, publish = containers(recipe="iris", trainOptions=["--epochs=5"], exportOptions=["--name=flowers"])
    assert train["args"] == ["train", "iris", "--run-dir=/work/$(JOB_NAME)", "--resume", "--epochs=5"]
    assert publish["args"] == ["export", "/work/$(JOB_NAME)", "--to=/models", "--if-better", "--name=flowers"]


def test_only_the_container_that_publishes_can_write_models() -> None:
    mounts = [{each.pop("name"): each for each in container["volumeMounts"]} for container in containers()]
    assert "models" not in mounts[0]
    assert mounts[1]["models"] == {"mountPath": "/models", "subPath": "production"}
    assert mounts[1]["work"]["readOnly"]


def test_data_are_read_only_and_optional() -> None:
    train, _ = containers()
    assert "data" not in volumes()
    assert "PIXELSERVE_DATA_DIR" not in [each["name"] for each in train["env"]]
    data = {"claimName": "datasets", "subPath": "official"}
    train, _ = containers(data=data)
    assert volumes(data=data)["data"] == {"persistentVolumeClaim": {"claimName": "datasets", "readOnly": True}}
    assert {"name": "PIXELSERVE_DATA_DIR", "value": "/data"} in train["env"]
    assert {"name": "data", "mountPath": "/data", "readOnly": True, "subPath": "official"} in train["volumeMounts"]


def test_with_a_claim_a_replaced_pod_finds_its_run() -> None:
    assert volumes()["work"] == {"emptyDir": {"sizeLimit": "4Gi"}}
    assert volumes(work={"claimName": "runs"})["work"] == {"persistentVolumeClaim": {"claimName": "runs"}}


def test_a_wrong_option_fails_the_job_at_once_and_an_eviction_does_not_count() -> None:
    spec = job()["spec"]
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["podFailurePolicy"]["rules"] == [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 3]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
    ]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"], spec["ttlSecondsAfterFinished"]) == (2, 86400, 604800)


def test_it_runs_as_the_servers_do_and_connects_to_nothing() -> None:
    pod = job()["spec"]["template"]["spec"]
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert pod["securityContext"]["runAsUser"] == pod["securityContext"]["fsGroup"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in containers():
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
    policy = pick(render(values()), "NetworkPolicy", "digits-pixelserve-train")["spec"]
    assert (policy["ingress"], policy["egress"], policy["policyTypes"]) == ([], [], ["Ingress", "Egress"])
    labels = job()["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()


def test_no_server_object_selects_its_pods() -> None:
    manifests = render(values())
    labels = job()["spec"]["template"]["metadata"]["labels"]
    selectors = [
        each["spec"]["selector"].get("matchLabels", each["spec"]["selector"])
        for each in manifests
        if each["kind"] in ("Service", "Deployment", "PodDisruptionBudget")
    ]
    assert len(selectors) >= 4
    assert not [selector for selector in selectors if selector.items() <= labels.items()]


def test_a_schedule_makes_it_a_cron_job_that_never_runs_twice_at_once() -> None:
    manifests = render(values(schedule="0 3 * * 0", timeZone="Europe/Berlin", image={"digest": DIGEST}))
    kinds = [each["kind"] for each in manifests if component(each) == "training"]
    assert sorted(kinds) == ["CronJob", "NetworkPolicy"]
    cron = pick(manifests, "CronJob", "digits-pixelserve-train")["spec"]
    assert (cron["schedule"], cron["timeZone"], cron["concurrencyPolicy"]) == ("0 3 * * 0", "Europe/Berlin", "Forbid")
    assert (cron["successfulJobsHistoryLimit"], cron["failedJobsHistoryLimit"]) == (3, 3)
    (container,) = cron["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["image"] == f"pixelserve-training@{DIGEST}"


def test_a_changed_job_has_another_name_because_its_template_cannot_change() -> None:
    assert job()["metadata"]["name"] == job()["metadata"]["name"]
    assert job()["metadata"]["name"] != job(trainOptions=["--hold-out=0.2"])["metadata"]["name"]


def test_names_fit_even_for_the_longest_release() -> None:
    long = {"fullnameOverride": "a" * 60}
    assert len(training_job({**values(), **long})["metadata"]["name"]) <= 63
    cron = next(each for each in render({**values(schedule="@daily"), **long}) if each["kind"] == "CronJob")
    # Kubernetes adds 11 characters to a CronJob's name for its Jobs.
    assert len(cron["metadata"]["name"]) <= 52


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"models": {"source": "baked"}}, "training.enabled needs models.source pvc"),
        ({"server": {"settings": {}}}, "training.enabled needs server.settings.model_control_mode poll; with none"),
        ({"training": {"enabled": True, "schedule": "daily"}}, "/training/schedule"),
        ({"training": {"enabled": True, "recipe": "--help"}}, "/training/recipe"),
        ({"training": {"enabled": True, "epochs": 3}}, "additional properties 'epochs' not allowed"),
    ],
)
def test_what_cannot_work_is_refused(changed: dict[str, Any], message: str) -> None:
    assert message in refusal({**values(), **changed})
