"""Starts a server with the committed models, classifies real test images with each, and shows the server's metrics.

Run it with `make demo`; `make serve` leaves the server running.
"""

import argparse
import json
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from pixelserve.oip import inference_pb2, inference_pb2_grpc

ROOT = Path(__file__).resolve().parent.parent
# The pictures for each committed model.
PICTURES = {"mnist-cnn": "mnist", "mnist": "mnist", "fashion-mnist": "fashion-mnist", "cifar10": "cifar10"}
BURST_MODEL = "mnist-cnn"
TOP = 3
START_TIMEOUT_S = 60
BURST_REQUESTS = 3000
BURST_IN_FLIGHT = 32

console = Console(width=120)


@dataclass(frozen=True)
class Server:
    """A ready server process."""

    grpc: str
    """Address of its gRPC API."""
    http: str
    """URL of its HTTP API."""
    metrics: str
    """URL of its metrics page."""
    process: subprocess.Popen[str]
    """The process."""


@contextmanager
def running_server(http_port: int, grpc_port: int, metrics_port: int) -> Iterator[Server]:
    """Starts a server with the committed models and always stops it at the end."""
    command = [sys.executable, "-m", "pixelserve", "serve", "--model-repository", str(ROOT / "models")]
    command += ["--http-port", str(http_port), "--grpc-port", str(grpc_port), "--metrics-port", str(metrics_port)]
    # In its own session, so Ctrl-C reaches only this process, which then stops the server gracefully.
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        event = _wait_until_serving(process)
        yield Server(event["grpc"], event["http"], event["metrics"], process)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait()
    if code:
        sys.exit(f"the server ended with exit code {code}")


def _wait_until_serving(process: subprocess.Popen[str]) -> dict[str, str]:
    """Returns the fields of the server's start-up line; prints its output if it does not start."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        # Read to the end, because a full pipe would block the server.
        for line in process.stderr or ():
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    end_s = time.monotonic() + START_TIMEOUT_S
    while (line := lines.get(timeout=max(0.1, end_s - time.monotonic()))) is not None:
        event = json.loads(line) if line.startswith("{") else {"event": line.strip()}
        if event["event"] == "serving":
            return dict(event)
        console.print(f"  {event['event']}: " + ", ".join(f"{event[k]}" for k in ("model", "evidence") if k in event))
    sys.exit("the server did not start; its output is above")


def read_pictures(folder: str) -> dict[str, np.ndarray]:
    """Returns a folder's pictures by name, as uint8 [H, W, C], with C 1 for grey and 3 for colour."""
    paths = sorted((ROOT / "examples" / folder).glob("*.png"))
    pixels = {path.stem: np.asarray(Image.open(path)) for path in paths}
    return {name: image if image.ndim == 3 else image[:, :, None] for name, image in pixels.items()}


def infer_request(model: str, image: np.ndarray) -> inference_pb2.ModelInferRequest:
    """Returns a request for the top classes of one image, uint8 [H, W, C]."""
    request = inference_pb2.ModelInferRequest(model_name=model, raw_input_contents=[image.tobytes()])
    request.inputs.add(name="image", datatype="UINT8", shape=[1, *image.shape])
    request.outputs.add(name="probabilities").parameters["classification"].int64_param = TOP
    return request


def top_classes(response: inference_pb2.ModelInferResponse) -> list[tuple[str, float]]:
    """Parses the top classes and their probabilities: each element is a length and `value:index:label`."""
    raw, found = response.raw_output_contents[0], []
    while raw:
        length = int.from_bytes(raw[:4], "little")
        value, _, label = raw[4 : 4 + length].decode().split(":", 2)
        found.append((label, float(value)))
        raw = raw[4 + length :]
    return found


def true_label(picture: str) -> str:
    """Returns the label in a picture's name: t-shirt-top of t-shirt-top-test-00019, 7 of digit-7-test-00000."""
    return picture.rpartition("-test")[0].removeprefix("digit-")


def is_right(label: str, picture: str) -> bool:
    """Returns whether a label is the one in a picture's name."""
    return re.sub("[^a-z0-9]+", "-", label.lower()) == true_label(picture)


def classify_pictures(
    stub: inference_pb2_grpc.GRPCInferenceServiceStub, model: str, pictures: Mapping[str, np.ndarray]
) -> Table:
    """Classifies pictures one by one; returns a table of the answers."""
    table = Table("picture", "true label", "1st", "2nd", "3rd", "latency", title=f"model {model}")
    for name, image in pictures.items():
        start_s = time.perf_counter()
        response = stub.ModelInfer(infer_request(model, image), timeout=10)
        latency_ms = (time.perf_counter() - start_s) * 1e3
        best = top_classes(response)
        mark = "[green]" if is_right(best[0][0], name) else "[red]"
        shown = [f"{label}  {probability:.2%}" for label, probability in best]
        table.add_row(name, true_label(name), mark + shown[0], *shown[1:], f"{latency_ms:.2f} ms")
    return table


def send_burst(stub: inference_pb2_grpc.GRPCInferenceServiceStub, pictures: Mapping[str, np.ndarray]) -> float:
    """Sends the pictures repeatedly with many requests in flight; returns the elapsed seconds."""
    requests = [infer_request(BURST_MODEL, image) for image in pictures.values()]
    in_flight = threading.Semaphore(BURST_IN_FLIGHT)
    start_s = time.perf_counter()
    futures: list[Future[inference_pb2.ModelInferResponse]] = []
    for number in range(BURST_REQUESTS):
        in_flight.acquire()
        futures.append(stub.ModelInfer.future(requests[number % len(requests)], timeout=10))
        futures[-1].add_done_callback(lambda _: in_flight.release())
    for future in futures:
        future.result()
    return time.perf_counter() - start_s


Samples = dict[tuple[str, str], float]
"""Value by metric sample name and upper bound (empty if not a histogram bucket), for the burst's model."""


def read_metrics(url: str) -> Samples:
    """Reads the server's metrics page."""
    # Never through a proxy from the environment: the server is on this machine.
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as page:
        families = text_string_to_metric_families(page.read().decode())
    return {
        (sample.name, sample.labels.get("le", "")): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("model") == BURST_MODEL
    }


def buckets(before: Samples, after: Samples, histogram: str) -> list[tuple[float, float]]:
    """Returns the count of each bucket, by upper bound, between two readings, lowest first."""
    bounds = sorted((float(le), le) for name, le in after if name == f"{histogram}_bucket")
    counts = [after[f"{histogram}_bucket", le] - before.get((f"{histogram}_bucket", le), 0) for _, le in bounds]
    below = [0.0, *counts[:-1]]
    return [(bound, count - less) for (bound, _), count, less in zip(bounds, counts, below, strict=True)]


def percentile(histogram: list[tuple[float, float]], share: float) -> float:
    """Returns the upper bound of the bucket that reaches the given share (0 to 1) of all values."""
    wanted = share * sum(count for _, count in histogram)
    for bound, count in histogram:
        wanted -= count
        if wanted <= 0:
            return bound
    return float("inf")


# The phases of a request, by Triton's names.
PHASES = {
    "queue": "in the queue",
    "compute_input": "until its batch is assembled",
    "compute_infer": "in the model",
    "compute_output": "until it is answered",
}


def phases(before: Samples, after: Samples) -> str:
    """Returns the average time per phase of a request between two readings."""

    def since(name: str) -> float:
        return after[f"nv_inference_{name}", ""] - before.get((f"nv_inference_{name}", ""), 0)

    requests = max(since("request_success"), 1)
    parts = [f"{since(f'{name}_duration_us') / requests / 1e3:.2f} ms {text}" for name, text in PHASES.items()]
    return f"a request spent {', '.join(parts)}"


def figures(before: Samples, after: Samples, seconds: float) -> str:
    """Returns lines with the metrics page's figures between two readings."""
    images = after["nv_inference_count", ""] - before.get(("nv_inference_count", ""), 0)
    latency = buckets(before, after, "pixelserve_request_duration_seconds")
    batches = buckets(before, after, "pixelserve_batch_rows")
    lowest = [0.0, *(bound for bound, _ in batches)]
    sizes = ", ".join(
        f"{count:.0f} of {bound:.0f}" if bound == below + 1 else f"{count:.0f} of {below + 1:.0f}-{bound:.0f}"
        for below, (bound, count) in zip(lowest, batches, strict=False)
        if count
    )
    return (
        f"{images / seconds:,.0f} images/s with {BURST_IN_FLIGHT} in flight, in the server p50 ≤ "
        f"{percentile(latency, 0.5) * 1e3:.2f} ms, p99 ≤ {percentile(latency, 0.99) * 1e3:.2f} ms, "
        f"batches of images: {sizes}\n{phases(before, after)}\n"
        f"All metrics: docs/metrics.md. Troubleshooting: docs/operations.md."
    )


def save_picture(path: Path) -> None:
    """Writes the recorded output as an SVG file that loads nothing."""
    drawn = console.export_svg(title="make demo", unique_id="demo")
    # Rich's fonts would come from the network.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    path.write_text("".join(f"{line.rstrip()}\n" for line in drawn.splitlines()), encoding="utf-8")


def wait_for_ctrl_c(server: Server) -> None:
    """Waits for Ctrl-C, or until the server exits."""
    # SIGTERM ends this process the same way, so it also stops the server. SIGINT is ignored if a shell started this in
    # the background.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)
    try:
        console.print(f"\nServing at {server.grpc} (gRPC), {server.http}/docs and {server.metrics}.")
        console.print(f"Draw a digit yourself: {server.http}/\nStop with Ctrl-C.")
        server.process.wait()
    except KeyboardInterrupt:
        console.print("\nstopping")


def main() -> None:
    """Runs the demonstration."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--http-port", type=int, default=0, help="the server's HTTP port (default: a free one)")
    parser.add_argument("--grpc-port", type=int, default=0, help="the server's gRPC port (default: a free one)")
    parser.add_argument("--metrics-port", type=int, default=0, help="the server's metrics port (default: a free one)")
    parser.add_argument("--stay", action="store_true", help="keep the server running until Ctrl-C")
    parser.add_argument("--svg", type=Path, metavar="FILE", help=f"show {BURST_MODEL} only, and save the output as SVG")
    args = parser.parse_args()

    console.record = args.svg is not None
    models = [BURST_MODEL] if args.svg else [model for model in PICTURES if (ROOT / "models" / model).is_dir()]
    shown = {model: read_pictures(PICTURES[model]) for model in models}
    burst = shown[BURST_MODEL]
    console.print("==> Starting the server")
    ports = (args.http_port, args.grpc_port, args.metrics_port)
    direct = [("grpc.enable_http_proxy", 0)]
    with running_server(*ports) as server, grpc.insecure_channel(server.grpc, direct) as channel:
        stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        # The first call also opens the connection.
        stub.ServerLive(inference_pb2.ServerLiveRequest(), wait_for_ready=True, timeout=10)
        for model, pictures in shown.items():
            console.print(f"==> Classifying {len(pictures)} test images")
            console.print(classify_pictures(stub, model, pictures))
        console.print(f"==> Sending {BURST_MODEL} its pictures {BURST_REQUESTS:,} times, {BURST_IN_FLIGHT} in flight")
        before = read_metrics(server.metrics)
        seconds = send_burst(stub, burst)
        console.print(f"From {server.metrics}:\n{figures(before, read_metrics(server.metrics), seconds)}")
        if args.stay:
            wait_for_ctrl_c(server)
        else:
            console.print("Draw a digit yourself: `make serve`, then open http://127.0.0.1:8000/")
    if args.svg:
        save_picture(args.svg)


if __name__ == "__main__":
    main()
