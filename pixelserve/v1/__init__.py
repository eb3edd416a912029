"""Images in, labels out: the messages and stubs of pixelserve.v1, generated from proto/pixelserve/v1 by `make proto`."""
