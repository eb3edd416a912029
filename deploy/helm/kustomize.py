"""Generates deploy/kustomize from the chart, for clusters without Helm.

    python -m deploy.helm.kustomize            writes
    python -m deploy.helm.kustomize --check    exits with 1 and names outdated files

base/ has the chart's objects rendered with deploy/kustomize/values.yaml. An overlay has the changes of its settings.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parent.parent
CHART, KUSTOMIZE = DEPLOY / "helm" / "pixelserve", DEPLOY / "kustomize"
VALUES = KUSTOMIZE / "values.yaml"
RELEASE, NAMESPACE = "pixelserve", "inference"
OVERLAYS: Mapping[str, tuple[str, ...]] = {"cpu": (), "gpu": ("gpu.enabled=true",)}

_HEADER = "# Written by `make kustomize`.\n"
_SOURCE = re.compile(r"^---\n# Source: pixelserve/templates/(?P<name>[\w./-]+)\n", re.MULTILINE)


def rendered(*settings: str) -> str:
    """Renders the chart with deploy/kustomize/values.yaml and these settings, such as gpu.enabled=true.

    Raises:
        SystemExit: Helm is missing, or refuses.
    """
    helm = Path(sys.prefix) / "deploy" / "bin" / "helm"
    if not helm.exists():
        raise SystemExit(f"{helm} is missing; run `make kustomize`, which installs it")
    command = [str(helm), "template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--values", str(VALUES)]
    command += [part for setting in settings for part in ("--set", setting)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"helm template: {done.stderr.strip()}")
    return done.stdout


def files(text: str) -> dict[str, str]:
    """Returns a rendered chart's text by template name; a template may have several objects."""
    _, *parts = _SOURCE.split(text)
    found: dict[str, list[str]] = {}
    for name, content in zip(parts[::2], parts[1::2], strict=True):
        found.setdefault(name, []).append(content.strip() + "\n")
    return {name: _HEADER + "---\n".join(contents) for name, contents in sorted(found.items())}


def operations(before: Any, after: Any, path: str = "") -> Iterator[dict[str, Any]]:
    """Yields the JSON patch (RFC 6902) from `before` to `after`. Named items of lists keep their order.

    Not a strategic merge patch, because Kustomize prepends added items.
    """
    if before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*after, *(before.keys() - after.keys())]:
            yield from _entry(before, after, key, f"{path}/{key.replace('~', '~0').replace('/', '~1')}")
    elif _has_names(before) and _has_names(after) and _names(before) <= _names(after):
        yield from _items(list(before), after, path)
    else:
        yield {"op": "replace", "path": path, "value": after}


def _entry(before: Mapping[str, Any], after: Mapping[str, Any], key: str, path: str) -> Iterator[dict[str, Any]]:
    if key not in after:
        yield {"op": "remove", "path": path}
    elif key not in before:
        yield {"op": "add", "path": path, "value": after[key]}
    else:
        yield from operations(before[key], after[key], path)


def _items(before: list[Any], after: list[Any], path: str) -> Iterator[dict[str, Any]]:
    known = _names(before)
    for index, item in enumerate(after):
        if item["name"] not in known:
            before.insert(index, item)
            yield {"op": "add", "path": f"{path}/{index}", "value": item}
        yield from operations(before[index], item, f"{path}/{index}")


def _has_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) and "name" in each for each in value)


def _names(items: list[Any]) -> set[str]:
    return {each["name"] for each in items}


def patches(before: str, after: str) -> list[dict[str, Any]]:
    """Returns the patches between two rendered charts with the same objects."""
    pairs = zip(yaml.safe_load_all(before), yaml.safe_load_all(after), strict=True)
    return [
        {
            "target": {"kind": old["kind"], "name": old["metadata"]["name"]},
            "patch": yaml.safe_dump(list(operations(old, new)), sort_keys=False),
        }
        for old, new in pairs
        if old != new
    ]


def documents() -> dict[Path, str]:
    """Returns the expected content of each generated file."""
    base = rendered()
    objects = files(base)
    found = {KUSTOMIZE / "base" / name: text for name, text in objects.items()}
    found[KUSTOMIZE / "base" / "kustomization.yaml"] = _kustomization(list(objects), [])
    for name, settings in OVERLAYS.items():
        changes = patches(base, rendered(*settings))
        found[KUSTOMIZE / "overlays" / name / "kustomization.yaml"] = _kustomization(["../../base"], changes)
    return found


def _kustomization(resources: list[str], changes: list[dict[str, Any]]) -> str:
    content: dict[str, Any] = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    content["resources"] = resources
    if changes:
        content["patches"] = changes
    return _HEADER + yaml.dump(content, Dumper=_Dumper, sort_keys=False)


class _Dumper(yaml.SafeDumper):
    """Writes multi-line text as block scalars."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def main() -> None:
    """Writes the files, or checks them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    only_check = parser.parse_args().check
    wanted = documents()
    stale = {path for path, text in wanted.items() if not path.exists() or path.read_text() != text}
    stale |= {path for folder in ("base", "overlays") for path in (KUSTOMIZE / folder).rglob("*.yaml")} - wanted.keys()
    for path in sorted(stale):
        if not only_check:
            _write(path, wanted.get(path))
        print(f"{path.relative_to(DEPLOY.parent)}: {'out of date; run `make kustomize`' if only_check else 'written'}")
    sys.exit(only_check and bool(stale))


def _write(path: Path, text: str | None) -> None:
    if text is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    main()
