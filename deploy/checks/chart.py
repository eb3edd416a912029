"""Renders a chart like `helm install`, without a cluster."""

import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import tools
from .manifests import Manifest, ManifestError, load

RELEASE = "pixelserve"
NAMESPACE = "inference"
KUBERNETES = tuple(f"1.{minor}" for minor in range(29, 38))
# `.Capabilities.APIVersions` on a cluster with every operator that model servers' charts look for.
CUSTOM_APIS = (
    "monitoring.coreos.com/v1",
    "monitoring.coreos.com/v1/PodMonitor",
    "monitoring.coreos.com/v1/ServiceMonitor",
    "monitoring.coreos.com/v1/PrometheusRule",
    "keda.sh/v1alpha1",
    "keda.sh/v1alpha1/ScaledObject",
    "gateway.networking.k8s.io/v1",
    "gateway.networking.k8s.io/v1/GRPCRoute",
    "gateway.networking.k8s.io/v1/HTTPRoute",
)


class RenderError(Exception):
    """Helm refused the chart with these values; the message is Helm's."""


def values_files(chart: Path) -> list[Path]:
    """Returns the chart's values files, its defaults first, or none."""
    return [*chart.glob("values.yaml"), *sorted(chart.glob("values-*.yaml")), *sorted(chart.glob("ci/*.yaml"))]


def render_text(
    chart: Path,
    *,
    files: Iterable[Path] = (),
    values: Mapping[str, Any] | None = None,
    kubernetes: str = KUBERNETES[-1],
    apis: Iterable[str] = (),
) -> str:
    """Returns the objects that Helm would install, as YAML.

    Raises:
        RenderError: Helm refuses.
    """
    command = ["template", RELEASE, str(chart), "--namespace", NAMESPACE, "--kube-version", kubernetes]
    command += [part for api in apis for part in ("--api-versions", api)]
    command += [part for file in files for part in ("--values", str(file))]
    with tempfile.NamedTemporaryFile("w", suffix=".json") as overrides:
        json.dump(values or {}, overrides)
        overrides.flush()
        done = tools.run("helm", *command, "--values", overrides.name)
    if done.returncode:
        raise RenderError(done.stderr.strip().removeprefix("Error: "))
    return done.stdout


def render(chart: Path, **options: Any) -> list[Manifest]:
    """Returns the objects that Helm would install; accepts the options of `render_text`.

    Raises:
        RenderError: Helm refuses, or its output is not a list of Kubernetes objects.
    """
    try:
        return load(render_text(chart, **options))
    except ManifestError as error:
        raise RenderError(f"the rendered text: {error}") from error
