"""The Open Inference Protocol's messages and stubs, generated from proto/pixelserve/oip by `make proto`."""
