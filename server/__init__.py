"""The PixelServe server: loads a Triton-layout repository of ONNX models and answers the Open Inference Protocol."""
