"""The clients of a soak. Each makes rounds of calls, and records the result of each call."""

import http.client
import itertools
import json
import random
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import grpc
from fuzzing.calls import seeds
from fuzzing.pictures import picture_files
from neighbours import is_answer, request
from raw_http2 import RawConnection, message, until

from pixelserve.oip import inference_pb2 as pb
from pixelserve.oip import inference_pb2_grpc
from pixelserve.v1 import classifier_pb2, classifier_pb2_grpc

from .ledger import WILD, Ledger

TIMEOUT_S = 120
"""Far more than any call takes; a call that runs into it is one that was lost."""
_INITIAL_WINDOW = 4


class Client(ABC):
    """One client."""

    def __init__(self, fields: dict[str, Any], ledger: Ledger, seed: str) -> None:
        """Connects nothing yet.

        Args:
            fields: the server's start-up line.
            ledger: of all clients.
            seed: of what it chooses.
        """
        self.fields, self.ledger = fields, ledger
        self.random = random.Random(seed)
        self.numbers = itertools.count(self.random.randrange(100_000))

    @abstractmethod
    def round(self) -> None:
        """Makes some calls, and waits for the end of each."""

    def channel(self) -> grpc.Channel:
        """Returns a new connection."""
        return grpc.insecure_channel(self.fields["grpc"], [("grpc.use_local_subchannel_pool", 1)])

    def unary(self, call: Any, method: str, sent: Any) -> Any:
        """Makes a call; returns its answer, None where there is none."""
        self.ledger.send(method)
        try:
            answer = call(sent, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            self.ledger.end(method, error.code().name)
            return None
        self.ledger.end(method, "OK")
        return answer


class Honest(Client):
    """Sends requests whose answers it knows, on a connection of its own for each round."""

    def round(self) -> None:
        with self.channel() as channel:
            infer = inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
            for number in itertools.islice(self.numbers, 20):
                answer = self.unary(infer, "ModelInfer", request(number))
                if answer is not None and not is_answer(answer, number):
                    self.ledger.complain(f"request {number} got {answer}")


class Everything(Client):
    """Calls every unary method with a good message, and with a mutilated one."""

    def round(self) -> None:
        with self.channel() as channel:
            for path, good in seeds().items():
                method = path.rpartition("/")[2]
                # Others load, and what they do is counted there; Classify is the wild ones'.
                if method in (WILD, "RepositoryModelLoad", "RepositoryModelUnload"):
                    continue
                for sent in (self.random.choice(good).SerializeToString(), b"\xff" * 20):
                    self.unary(channel.unary_unary(path), method, sent)


class Streaming(Client):
    """Sends requests on a stream, every fifth of which is wrong."""

    def round(self) -> None:
        numbers = list(itertools.islice(self.numbers, 20))

        def sent() -> Iterator[pb.ModelInferRequest]:
            for number in numbers:
                self.ledger.send("ModelInfer")
                yield request(number, "nobody" if number % 5 == 0 else "doubler")

        with self.channel() as channel:
            answers = inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(sent(), timeout=TIMEOUT_S)
            for number, answer in zip(numbers, answers, strict=True):
                code = answer.error_message.partition(":")[0] or "OK"
                self.ledger.end("ModelInfer", code)
                if (code == "OK") == (number % 5 == 0):
                    self.ledger.complain(f"request {number} of a stream got {answer}")


class Web(Client):
    """Sends tensors over HTTP, good ones and a model that is not there."""

    def round(self) -> None:
        connection = http.client.HTTPConnection(urlsplit(self.fields["http"]).netloc, timeout=TIMEOUT_S)
        for number in itertools.islice(self.numbers, 10):
            model = "nobody" if number % 5 == 0 else "doubler"
            tensor = {"name": "values", "datatype": "FP32", "shape": [1, 4], "data": [number] * 4}
            self.ledger.send("ModelInfer")
            connection.request("POST", f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}))
            answer = connection.getresponse()
            found = json.loads(answer.read())
            self.ledger.end("ModelInfer", {200: "OK", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}[answer.status])
            if answer.status == 200 and found["outputs"][0]["data"] != [2 * number] * 4:
                self.ledger.complain(f"request {number} over HTTP got {found}")
        connection.close()


class Leaving(Client):
    """Cancels requests that wait in the queue of a model that waits for an hour: the server has seen each of them."""

    def round(self) -> None:
        with self.channel() as channel:
            infer = inference_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
            self.ledger.send("ModelInfer", 20)
            calls = [infer.future(request(number, "patient")) for number in range(20)]
            if not until(lambda: self._waiting() == 20, TIMEOUT_S):
                self.ledger.complain(f"{self._waiting()} of 20 requests wait")
            for call in calls:
                call.cancel()
            if not until(lambda: self._waiting() == 0, TIMEOUT_S):
                self.ledger.complain("cancelled requests are still in the queue")
            self.ledger.end("ModelInfer", "CANCELLED", sum(call.cancelled() for call in calls))

    def _waiting(self) -> int:
        lines = scrape(self.fields["metrics"]).splitlines()
        pending = 'nv_inference_pending_request_count{model="patient"'
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith(pending))


class Wild(Client):
    """Sends pictures, and leaves or runs out of time at any moment."""

    def round(self) -> None:
        asked = classifier_pb2.ClassifyRequest(model="mnist-cnn")
        for data in self.random.choices(list(picture_files().values()), k=self.random.randint(1, 8)):
            asked.images.add(encoded=data[: self.random.randint(1, len(data))] if self.random.random() < 0.2 else data)
        with self.channel() as channel:
            stub = classifier_pb2_grpc.ClassifierStub(channel)
            for _ in range(5):
                self.ledger.send(WILD)
                timeout_s = self.random.choice((0.0001, 0.005, TIMEOUT_S))
                call = stub.Classify.future(asked, timeout=timeout_s)
                if self.random.random() < 0.5:
                    # Of so many turns of this thread, so that it comes at any moment.
                    for _ in range(self.random.randrange(2000)):
                        pass
                    call.cancel()
                self.ledger.end(WILD, "CANCELLED" if call.cancelled() else call.code().name)


class Swapping(Client):
    """Reloads a model, unloads and loads another, and loads a missing one."""

    def round(self) -> None:
        with self.channel() as channel:
            stub = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
            load, unload = stub.RepositoryModelLoad, stub.RepositoryModelUnload
            for model in ("doubler", "nobody"):
                self.unary(load, "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=model))
            self.unary(unload, "RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="text"))
            self.unary(load, "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="text"))


class SlowReader(Client):
    """Asks for large answers, and does not read them. The server gives them up after a second."""

    def round(self) -> None:
        asked = pb.ModelInferRequest(model_name="zeros", raw_input_contents=[(1 << 16).to_bytes(8, "little")])
        asked.inputs.add(name="x", datatype="INT64", shape=[1])
        with RawConnection(self.fields["grpc"], {_INITIAL_WINDOW: 1}) as connection:
            for _ in range(3):
                self.ledger.send("ModelInfer")
                answer = connection.answer(connection.call(message(asked.SerializeToString())), TIMEOUT_S)
                self.ledger.end("ModelInfer", "UNREAD" if answer.status in (None, 0) else _name_of(answer.status))


class Scraping(Client):
    """Reads the metrics, whole and not."""

    def round(self) -> None:
        for _ in range(5):
            if not scrape(self.fields["metrics"]).endswith("\n"):
                self.ledger.complain("a page of metrics has no end")


def _name_of(status: int) -> str:
    return next(code.name for code in grpc.StatusCode if code.value[0] == status)


def scrape(url: str) -> str:
    """Returns the page of the metrics."""
    with urllib.request.urlopen(url, timeout=TIMEOUT_S) as page:
        return str(page.read().decode())


KINDS: tuple[type[Client], ...] = (Honest, Everything, Streaming, Web, Leaving, Wild, Swapping, SlowReader, Scraping)
