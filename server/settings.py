"""The server's settings: one frozen class, where a field is a flag, an environment variable and a line of docs."""

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ENV_PREFIX = "PIXELSERVE_"

_OPTION_GROUPS = "session., optimization., mlas., ep. or cuda."
# Sizes are ONNX Runtime's limits.
_SESSION_OPTION = re.compile(r"(session|optimization|mlas|ep|cuda)\.[\w.]{1,1000}=.{1,8192}")
# They decide more than what ONNX Runtime does.
_OPTIONS_WITH_FLAGS = {"cuda.device_id": "--device-id", "cuda.enable_cuda_graph": "--cuda-graphs"}
MIB = 1024 * 1024


class Settings(BaseSettings):
    """Serves a model repository over gRPC and HTTP.

    A flag wins over its environment variable (PIXELSERVE_ and the name in capitals), which wins over the file that
    --config names, which wins over the default.

    Examples:
      pixelserve serve --model-repository models
      pixelserve serve --model-repository models --host 0.0.0.0 --tls-cert crt --tls-key key --tokens tokens
      PIXELSERVE_GRPC_PORT=0 pixelserve serve --model-repository models    (a free port; the start-up line says which)
    """

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="forbid")

    model_repository: Path = Field(description="folder of models, in Triton's layout: <name>/<version>/model.onnx")
    model_name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="name of the model if --model-repository is the folder of one model or one version, as KServe "
        "leaves it; a repository keeps the names of its folders",
    )
    host: str = Field(
        "127.0.0.1",
        description="address to listen on; 0.0.0.0 for every network. Other than loopback needs TLS and tokens, or "
        "--insecure",
    )
    http: bool = Field(True, description="serve the v2 protocol and picture uploads over HTTP too")
    page: bool = Field(True, description="serve the page to try models, at / of the HTTP port (docs/page.md)")
    http_port: int = Field(8000, ge=0, le=65535, description="port of the HTTP API; 0 picks a free one")
    grpc_port: int = Field(8001, ge=0, le=65535, description="port of the gRPC API; 0 picks a free one")
    metrics_port: int = Field(
        8002, ge=0, le=65535, description="port of /metrics, /live and /ready over HTTP; 0 picks a free one"
    )
    tls_cert: Path | None = Field(
        None,
        description="PEM file of the server's certificate, then its intermediates; gRPC and HTTP then accept TLS only",
    )
    tls_key: Path | None = Field(None, description="PEM file of its private key, unencrypted")
    tls_client_ca: Path | None = Field(
        None,
        description="PEM file of CA certificates; clients must then present a certificate signed by one of them "
        "(mutual TLS)",
    )
    allowed_hosts: str | None = Field(
        None,
        pattern=r"^[\w.*:\[\]-]+(,[\w.*:\[\]-]+)*$",
        description="names and addresses that HTTP requests may have in Host, with commas between them, beside "
        "loopback's and the one listened on; their web pages may send requests. *.example.com for all below a name, "
        "* for any. Default: on loopback no others, elsewhere any",
    )
    tokens: Path | None = Field(
        None,
        description="file of the tokens that clients must send (docs/security.md); read again when it changes",
    )
    insecure: bool = Field(
        False, description="listen where other machines can connect although TLS or tokens are missing"
    )
    metrics_tls: bool = Field(
        False,
        description="encrypt the metrics port too, with the same certificate; it never asks for clients' certificates",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where models run: auto takes CUDA where this ONNX Runtime has it and a GPU is there"
    )
    device_id: int = Field(0, ge=0, description="CUDA's number of the GPU, for a model whose config.pbtxt names none")
    require_gpu: bool = Field(False, description="refuse to start where any model would be computed on the CPU")
    exit_on_error: bool = Field(
        True, description="end at once where a model fails at start-up; otherwise serve the others and stay not ready"
    )
    model_control_mode: Literal["none", "poll", "explicit"] = Field(
        "none",
        description="who decides what is loaded: none, the repository as it is at start-up; poll, the repository as it "
        "changes; explicit, RepositoryModelLoad and RepositoryModelUnload",
    )
    max_load_files_mib: int = Field(
        2048,
        ge=0,
        description="with explicit, MiB of files sent with RepositoryModelLoad that are kept at once, in the system's "
        "directory for temporary files",
    )
    repository_poll_s: float = Field(
        15.0, gt=0, description="with poll, seconds between looks at the repository beside the system's file events"
    )
    load_models: str | None = Field(
        None,
        description="with explicit, the models to load at start-up, with commas between their names; * for all",
    )
    require_card: bool = Field(False, description="refuse a version without a card instead of marking it unverified")
    default_max_batch_size: int = Field(
        64, ge=1, description="images a batch, for a model that batches and has no config.pbtxt"
    )
    max_queue_size: int = Field(
        1024, ge=1, description="requests that may wait for one model, where its config.pbtxt does not say"
    )
    max_message_mib: int = Field(
        64, ge=1, le=2047, description="largest gRPC message taken or sent, and largest HTTP body taken, in MiB"
    )
    max_json_mib: int = Field(
        4,
        ge=1,
        le=2047,
        description="most JSON taken in one HTTP body, in MiB; everything waits while the interpreter reads it, and "
        "tensors may travel as binary data instead",
    )
    max_inflight_mib: int = Field(
        512, ge=1, description="MiB of requests that the whole server works on at once; more are refused"
    )
    max_concurrent_streams: int = Field(
        1024, ge=1, description="calls that one connection may have in flight; the client holds more back"
    )
    max_infer_streams: int = Field(
        32, ge=1, description="ModelStreamInfer calls open at once in the whole server, on threads of their own"
    )
    stream_window: int = Field(
        64, ge=1, description="requests of one such stream that are read before their answers are sent"
    )
    system_shared_memory: bool = Field(
        False,
        description="let clients register POSIX shared memory of this machine, to pass tensors through it; whoever may "
        "call can then read and write what this process may",
    )
    triton_status_codes: bool = Field(
        False,
        description="answer UNAVAILABLE, as Triton does, where a queue is full or a deadline passed, instead of "
        "RESOURCE_EXHAUSTED and DEADLINE_EXCEEDED",
    )
    max_images: int = Field(64, ge=1, description="images a Classify request, and no more than the model's batch")
    max_image_pixels: int = Field(
        50_000_000, ge=1, description="pixels (width × height) of a picture sent to Classify, checked before decoding"
    )
    max_request_pixels: int = Field(
        1_600_000_000, ge=1, description="pixels of all the pictures of one Classify request together"
    )
    max_decode_mib: int = Field(
        1024,
        ge=64,
        description="MiB that pictures may take together while they are decoded: one starts when its memory is free, "
        "and one that would take more is refused by its header",
    )
    decode_threads: int = Field(2, ge=1, description="threads that decode pictures")
    decode_queue_size: int = Field(256, ge=0, description="Classify requests that may wait for these threads")
    batch_buckets: str = Field(
        "auto",
        pattern=r"^(auto|none|powers|[1-9][0-9]{0,6}(,[1-9][0-9]{0,6})*)$",
        description="batch sizes that runs are padded to: none, powers (of two), or sizes such as 1,8,64; auto: powers "
        "on CUDA, none on the CPU, where padding costs as much as images",
    )
    limit_batches: bool = Field(
        True,
        description="merge no more images than the smallest batch that was measured at load to be as fast per image "
        "as any; otherwise as many as the model's batch allows",
    )
    warmup_s: float = Field(
        0.5,
        ge=0,
        description="seconds that running and timing the batch sizes of a version may take when it is loaded; larger "
        "sizes than were timed are not merged. On CUDA every size is run in any case",
    )
    warmup_mib: int = Field(
        256,
        ge=0,
        description="MiB by which the server may grow meanwhile, most of which it gives back; a batch size that is "
        "expected to need more is not run",
    )
    run_on_arrival: bool = Field(
        True,
        description="compute a request that finds its model idle on the thread that brought it, where that was "
        "measured to take less than 300 µs; handing it over costs about 35 µs",
    )
    shed_delay_ms: float = Field(
        1000.0,
        ge=0,
        description="milliseconds that requests may wait for a model (or for one run of it, if that takes longer) "
        "where its queue has been longer for 100 ms; the others are refused with RESOURCE_EXHAUSTED. 0: no limit",
    )
    transport: Literal["auto", "h2corn", "grpcio"] = Field(
        "auto",
        description="what carries gRPC: h2corn, or grpcio's threads, which are slower; auto takes h2corn where it is "
        "installed. HTTP is h2corn's in any case",
    )
    max_connections: int = Field(
        2048, ge=1, description="connections of each of the gRPC and the HTTP port; more wait until one of them ends"
    )
    max_header_kib: int = Field(16, ge=16, description="KiB that the headers of one request may have")
    idle_connection_timeout_s: float = Field(
        300.0, ge=0, description="seconds that a connection may stay without a call before it is closed; 0: for ever"
    )
    max_connection_age_s: float = Field(
        0.0,
        ge=0,
        le=604_800,
        description="seconds, varied by a tenth, until connections of gRPC and HTTP are told to go, for clients to "
        "reconnect and find servers that came later; 0: never",
    )
    handshake_timeout_s: float = Field(
        5.0, gt=0, description="seconds from a connection's arrival to the end of its handshakes, TLS's and HTTP/2's"
    )
    idle_body_timeout_s: float = Field(
        10.0, gt=0, description="seconds that a request may pause before it is whole; streams may pause for ever"
    )
    unread_answer_timeout_s: float = Field(
        10.0, gt=0, description="seconds that an answer may wait for its reader before its call is given up"
    )
    grpc_threads: int = Field(
        64,
        ge=1,
        description="with grpcio, threads that carry calls; each holds one call from its arrival to its answer",
    )
    intra_op_threads: int = Field(
        0,
        ge=0,
        description="threads that compute one batch; 0: what its sessions share of the usable cores",
    )
    cuda_arena_shrink: bool = Field(
        False,
        description="give unused GPU memory back after a batch of a size that is not warmed; not with CUDA graphs",
    )
    cuda_graphs: bool = Field(
        False, description="launch each warmed batch size as one CUDA graph, where the model allows"
    )
    session_option: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="KEY=VALUE of ONNX Runtime's session configuration, such as session.intra_op.allow_spinning=1, or, "
        "with cuda. before it, of its CUDA provider, such as cuda.gpu_mem_limit=2147483648; several are given one by "
        "one, or with commas between them",
    )
    drain_settle_s: float = Field(
        0.0, ge=0, description="seconds to go on accepting after health says NOT_SERVING, for balancers to notice"
    )
    grace_s: float = Field(30.0, gt=0, description="seconds that accepted requests get to finish when the server stops")
    drift_window: int = Field(
        1000,
        ge=0,
        le=1_000_000,
        description="how many of a classifier's last predictions are held against its card, to see drift; 0: "
        "predictions are not looked at",
    )
    access_log_per_s: float = Field(
        10.0,
        ge=0,
        description="most log lines a second of calls that were answered, and as many of calls that failed; 0: none",
    )
    trace_endpoint: str | None = Field(
        None,
        pattern=r"^https?://",
        description="URL of an OpenTelemetry collector that traces are sent to (OTLP over HTTP), such as "
        "http://localhost:4318; needs the extra otel",
    )
    trace_rate: int = Field(
        1000,
        ge=0,
        description="trace one of so many calls whose caller does not say whether its trace is kept; 0: only those "
        "whose caller says so",
    )
    instance: str = Field(
        "",
        pattern=r"^[!-~]{0,253}$",
        description="name of this replica, such as its pod's: in every log line, and in traces as service.instance.id",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least severe log line shown")
    config: Path | None = Field(
        None, description="a .toml or .yaml file of settings by name; flags and environment variables win over it"
    )
    print_config: bool = Field(False, description="print the settings that result, as TOML, and exit")
    log_format: Literal["json", "text"] = Field("json", description="json: one object a line; text: for people")

    @field_validator("session_option", mode="before")
    @classmethod
    def _split_at_commas(cls, value: object) -> object:
        return tuple(value.split(",")) if isinstance(value, str) else value

    @field_validator("session_option")
    @classmethod
    def _is_of_onnx_runtime(cls, options: tuple[str, ...]) -> tuple[str, ...]:
        for option in options:
            # ONNX Runtime takes any key of its configuration, so a wrong one shows by its group only.
            if not _SESSION_OPTION.fullmatch(option):
                raise ValueError(f'has "{option}"; expected KEY=VALUE, where KEY begins with {_OPTION_GROUPS}')
            flag = _OPTIONS_WITH_FLAGS.get(option.split("=")[0])
            if flag is not None:
                raise ValueError(f'has "{option}"; use {flag} instead')
        return options

    @field_validator("max_connection_age_s")
    @classmethod
    def _is_no_shorter_than_a_second(cls, value: float) -> float:
        # Each time, calls are kept for a moment and every client connects again.
        if 0 < value < 1:
            raise ValueError(f"is {value:g}; expected at least 1, or 0 to let connections live")
        return value

    @model_validator(mode="after")
    def _tls_files_belong_together(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            given, missing = ("--tls-cert", "--tls-key") if self.tls_key is None else ("--tls-key", "--tls-cert")
            raise ValueError(f"{given} needs {missing}; give both, or neither to serve without TLS")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("--tls-client-ca needs --tls-cert and --tls-key, since only TLS asks for certificates")
        if self.metrics_tls and self.tls_cert is None:
            raise ValueError("--metrics-tls needs --tls-cert and --tls-key, whose certificate it uses")
        return self

    @model_validator(mode="after")
    def _one_model_does_not_change(self) -> Self:
        if self.model_name is not None and self.model_control_mode != "none":
            raise ValueError(
                f"--model-name serves what the folder holds at start-up, which --model-control-mode "
                f"{self.model_control_mode} contradicts; leave one of them out"
            )
        return self
