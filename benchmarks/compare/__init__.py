"""PixelServe against Triton, ONNX Runtime alone, a bare grpcio server and itself, all in one run: `make bench`."""
