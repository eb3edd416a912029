"""A Kubernetes API with one Secret, for charts that look it up."""

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

# Helm finds the kinds of a chart's objects by these before it renders anything.
KINDS = {
    "v1": ("Secret", "Service", "ServiceAccount", "ConfigMap", "Namespace"),
    "apps/v1": ("Deployment",),
    "batch/v1": ("Job",),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "policy/v1": ("PodDisruptionBudget",),
}


@contextmanager
def fake_cluster(release: str, namespace: str, name: str, data: Mapping[str, str]) -> Iterator[list[str]]:
    """Serves a cluster with this Secret of a release; yields the flags by which `helm template` asks it."""
    owner = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace}
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "annotations": owner, "labels": labels},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }
    folder = f"/api/v1/namespaces/{namespace}/secrets"
    # Helm keeps releases in Secrets, and looks for them here.
    releases = {"kind": "SecretList", "apiVersion": "v1", "metadata": {}, "items": []}
    answers: dict[str, Any] = {**_discovery(), folder: releases, f"{folder}/{name}": secret}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            missing = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}
            answer = answers.get(self.path.partition("?")[0], missing)
            body = json.dumps(answer).encode()
            self.send_response(404 if answer is missing else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Writes nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield [
                "--dry-run=server",
                "--disable-openapi-validation",
                "--kube-apiserver",
                f"http://127.0.0.1:{server.server_port}",
            ]
        finally:
            server.shutdown()
            thread.join()


def _discovery() -> dict[str, Any]:
    groups = [_group(version) for version in KINDS if "/" in version]
    return {
        "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
        **{f"/{'apis' if '/' in version else 'api'}/{version}": _resources(version) for version in KINDS},
    }


def _group(version: str) -> dict[str, Any]:
    group, _, short = version.partition("/")
    named = {"groupVersion": version, "version": short}
    return {"name": group, "versions": [named], "preferredVersion": named}


def _resources(version: str) -> dict[str, Any]:
    found = [(kind, kind.lower()) for kind in KINDS[version]]
    resources = [
        {
            "name": f"{name[:-1]}ies" if name.endswith("y") else f"{name}s",
            "singularName": name,
            "namespaced": kind != "Namespace",
        }
        | {"kind": kind, "verbs": ["get"]}
        for kind, name in found
    ]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
