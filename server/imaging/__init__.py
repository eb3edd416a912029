"""The decoding thread pool; pixelserve.imaging decodes the pictures."""
