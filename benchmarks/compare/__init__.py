"""PixelServe against Triton, ONNX Runtime alone and a bare grpcio server, all in one run: `make bench`."""
