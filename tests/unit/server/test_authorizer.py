"""The permissions of tokens."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from pixelserve.oip import inference_pb2 as pb
from pixelserve.tokens import Scope, Token, digest_of
from pixelserve.v1 import classifier_pb2 as v1
from pixelserve_server.access.authorizer import Authorizer
from pixelserve_server.access.methods import RULES
from pixelserve_server.access.rate import RateLimit
from pixelserve_server.errors import InvalidRequest, PermissionDenied, RateExceeded, RequestError, Unauthenticated

OIP = "/inference.GRPCInferenceService/"
CLASSIFIER = "/pixelserve.v1.Classifier/"
SECRET = "ps_a-token-of-these-tests"


def token(*scopes: Scope, secret: str = SECRET, **fields: Any) -> Token:
    return Token(digest_of(secret), **{"name": "shop", "scopes": frozenset(scopes or Scope)} | fields)


def bearer(secret: str = SECRET) -> list[tuple[str, str | bytes]]:
    return [("user-agent", "a test"), ("authorization", f"Bearer {secret}")]


def refused(authorizer: Authorizer, metadata: Any, method: str = "ModelInfer", message: bytes = b"") -> RequestError:
    with pytest.raises(RequestError) as caught:
        authorizer.authorize(method if method.startswith("/") else OIP + method, message, metadata)
    assert SECRET not in str(caught.value)
    return caught.value


# Whom it gets, who has just one scope; open methods are not in it.
SCOPES = {
    "infer": {
        *(OIP + name for name in ("ModelInfer", "ModelStreamInfer", "ModelReady", "ModelMetadata", "ModelConfig")),
        OIP + "ServerMetadata",
        *(CLASSIFIER + name for name in ("Classify", "ListModels", "Samples")),
    },
    "observe": {
        *(OIP + name for name in ("ModelStatistics", "RepositoryIndex", "LogSettings", "TraceSetting")),
        *(OIP + "ModelReady", OIP + "ServerMetadata", CLASSIFIER + "Figures"),
    },
    "control": {
        *(OIP + name for name in ("RepositoryModelLoad", "RepositoryModelUnload", "RepositoryIndex")),
        *(OIP + name for name in ("LogSettings", "TraceSetting", "ModelReady", "ServerMetadata")),
        *(
            f"{OIP}{kind}SharedMemory{action}"
            for kind in ("System", "Cuda")
            for action in ("Status", "Register", "Unregister")
        ),
    },
}


@pytest.mark.parametrize("scope", Scope)
def test_a_scope_allows_its_methods_and_no_others(scope: Scope) -> None:
    authorizer = Authorizer([token(scope)])
    closed = {method for method, rule in RULES.items() if rule.scopes}
    for method in closed & SCOPES[scope]:
        assert authorizer.authorize(method, b"", bearer()) is not None
    for method in closed - SCOPES[scope]:
        error = refused(authorizer, bearer(), method)
        assert isinstance(error, PermissionDenied)
        assert f"token shop has {scope}" in str(error)


def test_probes_health_and_reflection_are_open() -> None:
    opened = {method for method, rule in RULES.items() if not rule.scopes}
    assert {method.split("/")[1] for method in opened} == {
        *("inference.GRPCInferenceService", "grpc.health.v1.Health"),
        *("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"),
    }
    assert {method for method in opened if method.startswith(OIP)} == {OIP + "ServerLive", OIP + "ServerReady"}
    for method in opened:
        assert Authorizer([token()]).authorize(method, b"", []) is None


def test_a_method_without_a_rule_is_denied_to_every_token() -> None:
    error = refused(Authorizer([token(*Scope)]), bearer(), "RepositoryModelRename")
    assert isinstance(error, PermissionDenied)
    assert str(error) == "no token allows RepositoryModelRename"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([], "requires a token; send the header authorization: Bearer TOKEN"),
        ([""], "malformed"),
        (["Bearer"], "malformed"),
        (["Bearer "], "malformed"),
        ([SECRET], "malformed"),
        ([f"Basic {SECRET}"], "malformed"),
        ([f"Token {SECRET}"], "malformed"),
        ([f"Bearer {SECRET} {SECRET}"], "malformed"),
        ([f"Bearer {SECRET}, Bearer {SECRET}"], "malformed"),
        ([f"Bearer {SECRET}\n"], "malformed"),
        ([f"Bearer\t{SECRET}"], "malformed"),
        ([f"Bearer {SECRET}\0"], "malformed"),
        ([f"Bearer {SECRET}ü"], "malformed"),
        (["Bearer \udcff"], "malformed"),
        ([f"Bearer {SECRET}".encode()], "malformed"),
        ([f"Bearer {SECRET}" + "a" * 10_000_000], "malformed"),
        (["Bearer " + "a" * 1017], "unknown"),
        (["Bearer " + "a" * 1018], "malformed"),
        ([f"Bearer {SECRET}x"], "unknown"),
        ([f"Bearer {SECRET[:-1]}"], "unknown"),
        ([f"Bearer {SECRET.upper()}"], "unknown"),
        ([f"Bearer {SECRET}="], "unknown"),
        ([f"Bearer {digest_of(SECRET)}"], "unknown"),
        ([f"Bearer {SECRET}"] * 2, "two authorization headers"),
        ([f"Bearer {SECRET}", ""], "two authorization headers"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_token_that_is_missing_malformed_unknown_or_twice_there_is_refused(values: Any, said: str) -> None:
    authorizer = Authorizer([token()])
    # After a good one too, which it remembers.
    for _ in range(2):
        error = refused(authorizer, [("authorization", value) for value in values])
        assert isinstance(error, Unauthenticated)
        assert said in str(error)
        authorizer.authorize(OIP + "ServerMetadata", b"", bearer())


@pytest.mark.parametrize("value", [f"bearer {SECRET}", f"BEARER {SECRET}", f"Bearer   {SECRET}", f"Bearer {SECRET} "])
def test_the_schemes_case_and_spaces_do_not_matter(value: str) -> None:
    assert Authorizer([token()]).authenticate([("authorization", value)]).name == "shop"


def test_a_token_of_ones_own_with_any_character_of_the_standard_is_accepted() -> None:
    secret = "abc.DEF_123~+/-=="
    assert Authorizer([token(secret=secret)]).authenticate(bearer(secret)).name == "shop"


def test_replaced_tokens_hold_from_the_next_request_on() -> None:
    authorizer = Authorizer([token()])
    authorizer.authorize(OIP + "ServerMetadata", b"", bearer())
    authorizer.replace([token(secret="another"), token(Scope.OBSERVE, secret="third")])
    assert isinstance(refused(authorizer, bearer()), Unauthenticated)
    authorizer.authorize(OIP + "ServerMetadata", b"", bearer("another"))
    # A token's permissions change with it.
    authorizer.replace([token(Scope.OBSERVE, secret="another")])
    assert isinstance(refused(authorizer, bearer("another")), PermissionDenied)
    assert authorizer.count == 1


def test_the_memory_of_accepted_headers_is_bounded() -> None:
    authorizer = Authorizer([token()])
    chance = random.Random(16)
    for _ in range(5000):
        scheme = "".join(chance.choice((letter, letter.upper())) for letter in "bearer") + " " * chance.randint(1, 200)
        assert authorizer.authenticate([("authorization", scheme + SECRET)]).name == "shop"
    assert len(authorizer._known) <= 4096


def changes(method: str) -> Iterator[bytes]:
    if method == "LogSettings":
        yield pb.LogSettingsRequest(settings={"log_info": {"bool_param": True}}).SerializeToString()
        # It requests nothing, but its contents are not checked.
        yield pb.LogSettingsRequest(settings={"log_info": {}}).SerializeToString()
    else:
        yield pb.TraceSettingRequest(settings={"trace_rate": {"value": ["1"]}}).SerializeToString()
        yield pb.TraceSettingRequest(settings={"trace_rate": {}}, model_name="m").SerializeToString()


@pytest.mark.parametrize("method", ["LogSettings", "TraceSetting"])
def test_settings_are_read_to_observe_and_changed_to_control(method: str) -> None:
    observer, controller = Authorizer([token(Scope.OBSERVE)]), Authorizer([token(Scope.CONTROL)])
    for message in changes(method):
        error = refused(observer, bearer(), method, message)
        assert isinstance(error, PermissionDenied)
        assert str(error) == f"a change by {method} needs the scope control; token shop has observe"
        controller.authorize(OIP + method, message, bearer())
    reading = pb.TraceSettingRequest(model_name="m").SerializeToString() if method == "TraceSetting" else b""
    observer.authorize(OIP + method, reading, bearer())


def of_model(method: str, name: str) -> bytes:
    requests: dict[str, Any] = {
        "ModelInfer": pb.ModelInferRequest(model_name=name, id="1", raw_input_contents=[bytes(1000)]),
        "ModelReady": pb.ModelReadyRequest(name=name, version="1"),
        "ModelMetadata": pb.ModelMetadataRequest(name=name),
        "ModelConfig": pb.ModelConfigRequest(name=name),
        "ModelStatistics": pb.ModelStatisticsRequest(name=name),
        "RepositoryModelLoad": pb.RepositoryModelLoadRequest(model_name=name),
        "RepositoryModelUnload": pb.RepositoryModelUnloadRequest(model_name=name),
        "Classify": v1.ClassifyRequest(model=name, images=[v1.Image(encoded=b"x")]),
        "ListModels": v1.ListModelsRequest(name=name),
        "Samples": v1.SamplesRequest(model=name),
        "Figures": v1.FiguresRequest(model=name),
    }
    message: bytes = requests[method].SerializeToString()
    return message


OF_A_MODEL = [method for method, rule in RULES.items() if rule.model > 0]


@pytest.mark.parametrize("method", OF_A_MODEL)
def test_a_token_limited_to_models_is_for_them_only(method: str) -> None:
    authorizer = Authorizer([token(models=frozenset({"digits", "clothes"}))])
    short = method.rpartition("/")[2]
    authorizer.authorize(method, of_model(short, "digits"), bearer())
    for name in ("other", "digit", "digits ", "Digits", "dïgits"):
        error = refused(authorizer, bearer(), method, of_model(short, name))
        assert isinstance(error, PermissionDenied)
        assert str(error) == f'token shop is for clothes, digits only; the request is for model "{name}"'


@pytest.mark.parametrize("method", OF_A_MODEL)
def test_a_request_that_names_two_models_needs_a_token_for_both(method: str) -> None:
    """Protobuf uses the last of two; the authorizer need not know that."""
    authorizer = Authorizer([token(models=frozenset({"digits"}))])
    short = method.rpartition("/")[2]
    for names in (("digits", "other"), ("other", "digits"), ("digits", "")):
        message = b"".join(of_model(short, name) for name in names)
        if names[1] == "":
            # The empty name says "all" where it is written, and protobuf does not write it by itself.
            message += bytes([RULES[method].model << 3 | 2, 0])
        if names[1] == "" and RULES[method].lists:
            continue
        assert isinstance(refused(authorizer, bearer(), method, message), PermissionDenied)
    authorizer.authorize(method, of_model(short, "digits") * 2, bearer())


def test_a_token_limited_to_models_must_name_one_unless_the_answer_lists_those_it_is_for() -> None:
    authorizer = Authorizer([token(models=frozenset({"digits"}))])
    for method in OF_A_MODEL:
        if RULES[method].lists:
            assert authorizer.authorize(method, b"", bearer()) is not None
        else:
            assert "the request is for every model; name one" in str(refused(authorizer, bearer(), method))


def test_a_token_limited_to_models_cannot_call_what_is_about_the_whole_server() -> None:
    authorizer = Authorizer([token(models=frozenset({"digits"}))])
    whole = {method.rpartition("/")[2] for method, rule in RULES.items() if rule.model < 0}
    assert whole >= {"LogSettings", "TraceSetting", "SystemSharedMemoryRegister", "SystemSharedMemoryStatus"}
    for method in whole:
        assert "is about the whole server" in str(refused(authorizer, bearer(), method))
    with pytest.raises(PermissionDenied, match="whole server"):
        authorizer.authorize_metrics(bearer())


def test_an_invalid_message_is_refused_to_a_token_limited_to_models() -> None:
    authorizer = Authorizer([token(models=frozenset({"digits"}))])
    good = of_model("ModelInfer", "digits")
    assert isinstance(refused(authorizer, bearer(), "ModelInfer", good[:-1]), InvalidRequest)
    assert isinstance(refused(authorizer, bearer(), "ModelInfer", b"\x0a\x01\xff"), PermissionDenied)


def test_whose_token_it_is_says_what_lists_may_show() -> None:
    limited = Authorizer([token(models=frozenset({"digits"}))]).authenticate(bearer())
    assert [limited.may_use(name) for name in ("digits", "clothes", "")] == [True, False, False]
    assert Authorizer([token()]).authenticate(bearer()).may_use("digits")


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_rate_allows_one_seconds_worth_at_once_and_then_says_how_long_to_wait() -> None:
    clock = Clock()
    limit = RateLimit(10, clock)
    assert [limit.take() for _ in range(10)] == [0.0] * 10
    assert limit.take() == pytest.approx(0.1)
    clock.now_s += 0.1
    assert limit.take() == 0.0
    assert limit.take() == pytest.approx(0.1)
    clock.now_s += 1000
    assert [limit.take() for _ in range(10)] == [0.0] * 10
    assert limit.take() > 0


def test_a_rate_below_one_a_second_allows_one_at_a_time() -> None:
    clock = Clock()
    limit = RateLimit(0.5, clock)
    assert limit.take() == 0.0
    assert limit.take() == pytest.approx(2)
    clock.now_s += 2
    assert limit.take() == 0.0


def test_a_refused_request_does_not_count() -> None:
    clock = Clock()
    limit = RateLimit(1, clock)
    assert limit.take() == 0.0
    assert [limit.take() for _ in range(100)] == pytest.approx([1.0] * 100)
    clock.now_s += 1
    assert limit.take() == 0.0


def test_a_token_above_its_rate_gets_a_retry_time_and_affects_no_other() -> None:
    authorizer = Authorizer([token(rate=0.01), token(secret="other", name="other", rate=0.01)])
    authorizer.authorize(OIP + "ServerMetadata", b"", bearer())
    error = refused(authorizer, bearer())
    assert isinstance(error, RateExceeded)
    assert str(error) == "token shop may be used 0.01 times per second; retry later"
    assert 99 < error.retry_after_s <= 100
    authorizer.authorize(OIP + "ServerMetadata", b"", bearer("other"))
    # Open methods need no token, and count for none.
    assert authorizer.authorize(OIP + "ServerLive", b"", bearer()) is None


def test_what_a_token_does_not_allow_does_not_count_against_its_rate() -> None:
    authorizer = Authorizer([token(Scope.INFER, rate=0.01)])
    for _ in range(3):
        assert isinstance(refused(authorizer, bearer(), "RepositoryModelLoad"), PermissionDenied)
    authorizer.authorize(OIP + "ModelInfer", b"", bearer())


def test_a_reload_does_not_fill_up_a_rate_that_is_the_same() -> None:
    authorizer = Authorizer([token(rate=0.01)])
    authorizer.authorize(OIP + "ModelInfer", b"", bearer())
    authorizer.replace([token(rate=0.01)])
    assert isinstance(refused(authorizer, bearer()), RateExceeded)
    authorizer.replace([token(rate=0.02)])
    authorizer.authorize(OIP + "ModelInfer", b"", bearer())


def test_a_stream_is_opened_with_infer_and_counts_only_by_its_requests() -> None:
    authorizer = Authorizer([token(Scope.INFER, rate=0.01), token(Scope.CONTROL, secret="control")])
    for _ in range(3):
        authorizer.authorize_stream(OIP + "ModelStreamInfer", bearer())
    with pytest.raises(PermissionDenied, match="ModelStreamInfer needs the scope infer"):
        authorizer.authorize_stream(OIP + "ModelStreamInfer", bearer("control"))
    with pytest.raises(Unauthenticated):
        authorizer.authorize_stream(OIP + "ModelStreamInfer", [])


def test_the_metrics_page_needs_observe() -> None:
    authorizer = Authorizer([token(Scope.OBSERVE), token(Scope.INFER, Scope.CONTROL, secret="other")])
    authorizer.authorize_metrics(bearer())
    with pytest.raises(PermissionDenied, match="/metrics needs the scope observe; token shop has control, infer"):
        authorizer.authorize_metrics(bearer("other"))
