"""The part of an ONNX file that leads to its tensors: messages generated from proto/pixelserve/onnx by `make proto`."""
