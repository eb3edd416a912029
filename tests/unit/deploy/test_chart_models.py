"""The sources of a pod's models."""

from typing import Any

import pytest
from helm_chart import environment, pick, pod, refusal, render, server

DIGEST = "sha256:" + "1" * 64


def model_volume(manifests: list[dict[str, Any]]) -> dict[str, Any] | None:
    return next((each for each in pod(manifests)["volumes"] if each["name"] == "models"), None)


def model_mount(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    return next(each for each in server(manifests)["volumeMounts"] if each["name"] == "models")


def test_baked_models_need_no_volume() -> None:
    manifests = render()
    assert environment(manifests)["PIXELSERVE_MODEL_REPOSITORY"] == "/models"
    assert model_volume(manifests) is None


def test_an_artifact_is_mounted_whole_and_read_only() -> None:
    manifests = render({"models": {"source": "image", "image": {"repository": "registry/mnist", "digest": DIGEST}}})
    assert model_volume(manifests) == {
        "name": "models",
        "image": {"reference": f"registry/mnist@{DIGEST}", "pullPolicy": "IfNotPresent"},
    }
    assert model_mount(manifests) == {"name": "models", "mountPath": "/mnt/models-image", "readOnly": True}
    assert environment(manifests)["PIXELSERVE_MODEL_REPOSITORY"] == "/mnt/models-image/models"


@pytest.mark.parametrize(("kubernetes", "refused"), [("1.30", True), ("1.31", False)])
def test_an_artifact_needs_a_cluster_with_image_volumes(kubernetes: str, refused: bool) -> None:
    values = {"models": {"source": "image", "image": {"repository": "registry/mnist", "tag": "1"}}}
    if refused:
        assert "needs Kubernetes 1.31" in refusal(values, kubernetes=kubernetes)
    else:
        render(values, kubernetes=kubernetes)


def test_pulls_run_before_the_server_one_for_each_url() -> None:
    urls = ["s3://bucket/a", "oci://registry/b:1"]
    pull = {"urls": urls, "existingSecret": "s3", "maxMib": 100}
    manifests = render({"models": {"source": "pull", "pull": pull}})
    containers = pod(manifests)["initContainers"]
    assert [each["args"][:3] for each in containers] == [["models", "pull", url] for url in urls]
    for each in containers:
        assert each["args"][3:] == ["--model-repository", "/mnt/models", "--max-mib", "100", "--require-card"]
        assert each["envFrom"] == [{"secretRef": {"name": "s3"}}]
    assert model_volume(manifests) == {"name": "models", "emptyDir": {"sizeLimit": "200Mi"}}
    assert model_mount(manifests)["readOnly"] is True


def test_the_servers_own_environment_has_no_credentials_of_the_source() -> None:
    manifests = render({"models": {"source": "pull", "pull": {"urls": ["s3://b/a"], "existingSecret": "s3"}}})
    assert "envFrom" not in server(manifests)


def test_pulls_from_a_registry_have_the_credentials_that_pulls_of_images_have() -> None:
    values = {"models": {"source": "pull", "pull": {"urls": ["oci://registry/a:1"]}}}
    manifests = render({**values, "imagePullSecrets": [{"name": "registry"}]})
    (container,) = pod(manifests)["initContainers"]
    folder = next(each["value"] for each in container["env"] if each["name"] == "DOCKER_CONFIG")
    mount = next(each for each in container["volumeMounts"] if each["mountPath"] == folder)
    volume = next(each for each in pod(manifests)["volumes"] if each["name"] == mount["name"])
    assert volume["secret"]["secretName"] == "registry"
    assert volume["secret"]["items"] == [{"key": ".dockerconfigjson", "path": "config.json"}]
    assert "registry" not in [each["name"] for each in server(manifests)["volumeMounts"]]
    assert "registry" not in [each["name"] for each in pod(render(values))["volumes"]]


def test_a_claim_is_mounted_read_only() -> None:
    manifests = render({"models": {"source": "pvc", "pvc": {"claimName": "models", "subPath": "production"}}})
    assert model_volume(manifests) == {
        "name": "models",
        "persistentVolumeClaim": {"claimName": "models", "readOnly": True},
    }
    assert model_mount(manifests) == {
        "name": "models",
        "mountPath": "/mnt/models",
        "readOnly": True,
        "subPath": "production",
    }
    assert environment(manifests)["PIXELSERVE_MODEL_REPOSITORY"] == "/mnt/models"


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"source": "image"}, "models.image.repository is empty"),
        ({"source": "image", "image": {"repository": "a"}}, "no digest and no tag"),
        ({"source": "pull"}, "models.pull.urls is empty"),
        ({"source": "pull", "pull": {"urls": ["bucket/a"]}}, "/models/pull/urls/0"),
        ({"source": "pvc"}, "models.pvc.claimName is empty"),
        ({"source": "s3"}, "/models/source"),
    ],
)
def test_a_source_that_is_not_whole_is_refused(models: dict[str, Any], message: str) -> None:
    assert message in refusal({"models": models})


OTHER = "sha256:" + "2" * 64


@pytest.mark.parametrize(("given", "expected"), [({"digest": OTHER}, f"@{OTHER}"), ({"tag": "next"}, ":next")])
def test_a_canary_may_differ_in_its_model_only(given: dict[str, str], expected: str) -> None:
    values = {
        "models": {"source": "image", "image": {"repository": "registry/mnist", "digest": DIGEST}},
        "canary": {"enabled": True, "modelImage": given},
        "envoy": {"enabled": True},
    }
    manifests = render(values)
    canary = pick(manifests, "Deployment", "digits-pixelserve-canary")["spec"]["template"]["spec"]
    reference = next(each for each in canary["volumes"] if each["name"] == "models")["image"]["reference"]
    assert reference == f"registry/mnist{expected}"
    assert model_volume(manifests) == {
        "name": "models",
        "image": {"reference": f"registry/mnist@{DIGEST}", "pullPolicy": "IfNotPresent"},
    }
