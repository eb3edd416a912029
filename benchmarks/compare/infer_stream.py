"""The generator's streaming mode: all requests on one ModelStreamInfer call."""

import struct

from pixelserve.oip import inference_pb2 as pb

from . import frames
from .bodies import STREAM_METHOD, Images, grpc_message, infer_request
from .connection import SAMPLE_EVERY, Connection
from .errors import LoadError
from .frames import Frame

_STREAM = 1
_HEAD = struct.Struct(">BI")
# The tag of ModelStreamInferResponse.infer_response; other answers contain an error message.
_INFER_RESPONSE = 2 << 3 | 2


class InferStreamConnection(Connection):
    """Keeps a number of requests with the same body in flight on one call."""

    def __init__(self, port: int, images: Images) -> None:
        """Connects; sends the first of the images [N, 28, 28, 1], like `Connection` for number 0."""
        super().__init__(port, images, 0, distinct=False)
        message = grpc_message(infer_request(frames.stamp(images, 0), frames.identity(0)).SerializeToString())
        block = frames.header_block(f"127.0.0.1:{port}", STREAM_METHOD)
        self._opening = frames.frame(frames.HEADERS, frames.END_HEADERS, _STREAM, block)
        self._request, self._message_bytes = frames.frame(frames.DATA, 0, _STREAM, message), len(message)
        # The call's window; the connection has its own.
        self._call_window = self._first_window = frames.DEFAULT_WINDOW
        self._rest = b""

    def _send(self, wanted: int) -> None:
        count = min(wanted, min(self._window, self._call_window) // self._message_bytes)
        if count <= 0:
            return
        self._socket.sendall(self._opening + self._request * count)
        self._opening = b""
        self._window -= count * self._message_bytes
        self._call_window -= count * self._message_bytes
        self.sent += count

    def _take(self, came: Frame) -> None:
        if came.kind == frames.DATA:
            self._read_answers(came.payload)
        elif came.kind == frames.HEADERS:
            self._check(came)
            if came.flags & frames.END_STREAM:
                raise LoadError("the server ended the stream")
        else:
            self._control(came)

    def _read_answers(self, payload: bytes) -> None:
        """Counts the complete messages, which need not align with frames."""
        buffer = self._rest + payload
        at = 0
        while len(buffer) - at >= _HEAD.size:
            end = at + _HEAD.size + _HEAD.unpack_from(buffer, at)[1]
            if end > len(buffer):
                break
            self._read_answer(buffer[at + _HEAD.size : end])
            at = end
        self._rest = buffer[at:]

    def _read_answer(self, message: bytes) -> None:
        if not message or message[0] != _INFER_RESPONSE:
            said = pb.ModelStreamInferResponse.FromString(message).error_message
            raise LoadError(f"a request of the stream failed: {said}")
        if self.answered % SAMPLE_EVERY == 0:
            response = pb.ModelStreamInferResponse.FromString(message).infer_response
            self.samples[self.answered] = response.SerializeToString()
        self.answered += 1

    def _control(self, came: Frame) -> None:
        if came.kind == frames.WINDOW_UPDATE and came.stream == _STREAM:
            self._call_window += struct.unpack(">I", came.payload)[0]
        elif came.kind == frames.SETTINGS and not came.flags & frames.ACK:
            window = frames.settings(came.payload).get(frames.INITIAL_WINDOW_SIZE, self._first_window)
            # RFC 9113, 6.9.2: a new initial window adjusts the windows of open calls.
            self._call_window += window - self._first_window
            self._first_window = window
        super()._control(came)
