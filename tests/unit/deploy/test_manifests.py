"""Kubernetes objects as text, and permitted differences of a kustomization from the chart."""

from typing import Any

import pytest

from deploy.checks.kustomize import differences
from deploy.checks.manifests import ManifestError, load
from deploy.checks.options import merge


def config(name: str = "a", **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **fields}


def test_lists_are_unpacked_and_empty_documents_left_out() -> None:
    text = "---\n---\napiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: Pod}]\n"
    text += "---\n{apiVersion: v1, kind: Node}\n"
    assert [one["kind"] for one in load(text)] == ["Pod", "Node"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("apiVersion: v1\nkind: Pod\nkind: Node\n", "repeated keys: kind"),
        ("apiVersion: v1\nkind: Pod\nspec: {a: 1, a: 2}\n", "repeated keys: a"),
        ("a: [", "not YAML"),
        ("kind: Pod\n", "expected an object with apiVersion and kind"),
        ("- 1\n", "expected an object with apiVersion and kind"),
    ],
)
def test_text_that_a_cluster_would_refuse_is_refused(text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        load(text)


def test_a_lone_equals_sign_is_text() -> None:
    assert load("{apiVersion: v1, kind: Pod, spec: {operator: =}}")[0]["spec"] == {"operator": "="}


def test_equal_objects_in_another_order_do_not_differ() -> None:
    assert differences([config("a"), config("b")], [config("b"), config("a")]) == []


@pytest.mark.parametrize(
    ("theirs", "line"),
    [
        ([], "v1/ConfigMap/a is only in the chart"),
        ([config(data={"x": "1"}), config("b")], "v1/ConfigMap/b is only in the kustomization"),
        ([config(data={"x": "2"})], 'ConfigMap/a: data.x is "2" in the kustomization, "1" in the chart'),
        ([config(data={"x": "1", "y": "1"})], 'ConfigMap/a: data.y is "1" in the kustomization, null in the chart'),
        ([config()], 'ConfigMap/a: data is null in the kustomization, {"x": "1"} in the chart'),
    ],
)
def test_each_difference_is_named(theirs: list[dict[str, Any]], line: str) -> None:
    assert differences([config(data={"x": "1"})], theirs) == [line]


def test_lists_are_compared_by_place_and_length() -> None:
    ours = [config(data=[{"p": 1}, {"p": 2}])]
    assert differences(ours, [config(data=[{"p": 1}, {"p": 3}])]) == [
        "ConfigMap/a: data.1.p is 3 in the kustomization, 2 in the chart"
    ]
    assert differences(ours, [config(data=[{"p": 1}])])


def test_hooks_and_the_values_of_secrets_are_not_compared() -> None:
    hook = config("hook")
    hook["metadata"]["annotations"] = {"helm.sh/hook": "test"}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
    assert differences([hook, {**secret, "data": {"token": "YQ=="}}], [{**secret, "stringData": {"token": "b"}}]) == []
    assert differences([{**secret, "data": {"token": "YQ=="}}], [{**secret, "data": {}}])


def test_values_are_merged_as_helm_merges_them() -> None:
    values: dict[str, Any] = {"a": {"b": 1, "c": [1, 2]}}
    merge(values, {"a": {"c": [3]}, "d": 4})
    assert values == {"a": {"b": 1, "c": [3]}, "d": 4}
