"""`pixelserve models`: a server's models, as text and JSON."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from pixelserve.cli import card_text
from pixelserve.v1 import classifier_pb2 as pb


def test_list_shows_one_line_a_version_with_accuracy_and_evidence(ask: Callable[..., Any], fake: Any) -> None:
    broken = pb.ModelVersion(
        name="letters", version="2", state=pb.ModelVersion.STATE_UNAVAILABLE, reason="golden outputs differ"
    )
    fake.versions.append(broken)
    ran = ask("models", "list")
    assert ran.code == 0
    header, digits, letters = ran.out.splitlines()
    assert header.split() == ["model", "version", "state", "accuracy", "provider", "evidence"]
    assert digits.split(maxsplit=5) == [
        *("digits", "1", "READY", "99.12%", "CPUExecutionProvider"),
        "verified: reproduced 8 golden samples",
    ]
    assert "UNAVAILABLE" in letters
    assert "golden outputs differ" in letters


def test_list_shows_what_versions_are_called(ask: Callable[..., Any], fake: Any) -> None:
    fake.versions[0].aliases.extend(["stable", "previous"])
    assert "1 stable previous" in ask("models", "list").out
    assert json.loads(ask("models", "list", "--json").out)[0]["aliases"] == ["stable", "previous"]
    assert "stable, previous" in ask("models", "show", "digits").out


def test_show_says_what_the_output_is_and_how_that_is_known(ask: Callable[..., Any], fake: Any) -> None:
    assert "output kind" not in ask("models", "show", "digits").out
    fake.versions[0].output_kind, fake.versions[0].output_kind_reason = "logits", "as config.pbtxt says"
    assert "logits (as config.pbtxt says)" in ask("models", "show", "digits").out
    (one,) = json.loads(ask("models", "show", "digits", "--json").out)
    assert (one["output_kind"], one["output_kind_reason"]) == ("logits", "as config.pbtxt says")


def test_list_as_json_holds_the_cards(ask: Callable[..., Any]) -> None:
    (one,) = json.loads(ask("models", "list", "--json").out)
    assert one["state"] == "READY"
    assert one["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, 2, 3, 1], "labels": []}]
    assert one["card"]["evaluation"]["metrics"]["accuracy"] == 0.9912


def test_show_says_whose_figures_a_final_networks_card_has() -> None:
    choice = {"run": "choice", "seed": 0}
    figures = {"split": "validation", "samples": 100, "metrics": {"accuracy": 0.9}, "choice_run": choice}
    facts = dict(card_text.facts({"evaluation": figures}))
    assert facts["accuracy"] == "90.00% (95 % interval 82.56% to 94.48%) on 100 samples (validation)"
    assert facts["measured by"].startswith("choice (seed 0): same settings, without these samples")
    assert "interval" not in dict(card_text.facts({"evaluation": figures | {"split": "training"}}))["accuracy"]


def test_show_makes_the_cards_figures_readable(ask: Callable[..., Any]) -> None:
    ran = ask("models", "show", "digits")
    assert ran.code == 0
    title, *lines = ran.out.splitlines()
    assert title == "digits version 1"
    shown = [line.split("  ", 1) for line in lines]
    facts = [(label, value.strip()) for label, value in shown]
    expected = [
        ("state", "READY"),
        ("provider", "CPUExecutionProvider"),
        ("input", "image UINT8 [any, 2, 3, 1]"),
        ("output", "probabilities FP32 [any, 3]: a, b, c"),
        ("batch", "at most 64"),
        ("accepts pictures", "yes"),
        ("evidence", "verified: reproduced 8 golden samples"),
        ("task", "image"),
        ("data set", "MNIST"),
        ("data SHA-256", "cd" * 32),
        ("trained with", "keras 3.8"),
        ("exported for", "colour=grey layout=nhwc size=2x3 fit=stretch"),
        ("recipe", "mnist-cnn"),
        ("seed", "42"),
        ("parameters", "93,322"),
        ("accuracy", "99.12% (95 % interval 98.92% to 99.29%) on 10,000 samples (test)"),
        ("log_loss", "0.03012"),
        ("lowest recall", "97.00% (1)"),
        ("ECE", "0.00412 over 15 bins"),
        ("parity", "float32 on CPUExecutionProvider: differs by at most 4.2e-07 on 1,000 samples, tolerance 1e-05"),
        ("parity", "float32 on CUDAExecutionProvider: tolerance 0.0001, not measured"),
        ("model SHA-256", "ab" * 32),
        ("exported", "2026-01-01T12:00:00+00:00"),
        ("made with", "keras 3.8, onnx 1.17"),
    ]
    assert facts == expected


def test_a_thousand_labels_do_not_bury_the_other_facts(ask: Callable[..., Any], fake: Any) -> None:
    fake.versions[0].outputs[0].labels[:] = [f"class-{number}" for number in range(1000)]
    shown = " ".join(ask("models", "show", "digits").out.split())
    assert "class-18, class-19 and 980 more (--json has all)" in shown
    assert "class-20" not in shown
    (version,) = json.loads(ask("models", "show", "digits", "--json").out)
    assert len(version["outputs"][0]["labels"]) == 1000


def test_what_int8_costs_and_brings_is_among_the_facts() -> None:
    quantization = {
        "precision": "int8",
        "original": {"framework": "keras", "version": "3.8"},
        "calibration_samples": 500,
        "float32_accuracy": 0.9934,
        "changed_labels": 2,
        "relative_bytes": 0.3,
        "relative_time": {"1": 0.76, "64": 0.69},
    }
    facts = dict(card_text.facts({"reference": {"framework": "onnxruntime"}, "quantization": quantization}))
    assert facts == {
        "trained with": "keras 3.8",
        "precision": "int8, calibrated on 500 samples",
        "against float32": "float32 accuracy 99.34%, 2 labels changed, 30.00% of its size, "
        "76.00% of its time in batches of 1, 69.00% of its time in batches of 64",
    }


def test_a_model_that_came_as_onnx_was_trained_with_nothing_known() -> None:
    reference = {"framework": "onnxruntime", "version": "1"}
    facts = dict(card_text.facts({"reference": reference, "versions": {"pytorch": "2.9"}}))
    assert facts == {"made with": "pytorch 2.9"}


def test_show_of_an_unknown_model_is_one_sentence_and_exit_code_4(ask: Callable[..., Any], fake: Any) -> None:
    ran = ask("models", "show", "letters")
    assert ran.code == 4
    assert "letters" in ran.err
    assert len(ran.err.splitlines()) == 1


def test_show_omits_a_missing_card(ask: Callable[..., Any], fake: Any) -> None:
    fake.versions[0].card_json = ""
    fake.versions[0].evidence = "unverified: it has no card"
    ran = ask("models", "show", "digits")
    assert ran.code == 0
    assert "unverified: it has no card" in ran.out
    assert "accuracy" not in ran.out
    assert json.loads(ask("models", "show", "digits", "--json").out)[0]["card"] is None


@pytest.mark.parametrize(
    "card",
    ["", "{", "[]", "null", '{"evaluation": 7, "parity": [1], "calibration": {}}', '{"dataset": {"name": null}}'],
)
def test_an_invalid_card_has_no_facts(card: str) -> None:
    assert card_text.facts(card_text.parse(card)) == []
    assert card_text.accuracy(card_text.parse(card)) == ""


def test_load_asks_the_server_and_says_which_version_is_ready(ask: Callable[..., Any], fake: Any) -> None:
    ran = ask("models", "load", "digits")
    assert (ran.code, ran.out) == (0, "digits: version 1 ready\n")
    assert [request.model_name for request in fake.requests] == ["digits"]


def test_a_load_that_fails_is_the_servers_sentence_and_exit_code_4(ask: Callable[..., Any]) -> None:
    ran = ask("models", "load", "broken")
    assert ran.code == 4
    assert ran.out == ""
    assert "broken/1/model.onnx: damaged" in ran.err


def test_unload_asks_the_server(ask: Callable[..., Any], fake: Any) -> None:
    ran = ask("models", "unload", "digits")
    assert (ran.code, ran.out) == (0, "digits: unloaded\n")
    assert [request.model_name for request in fake.requests] == ["digits"]
