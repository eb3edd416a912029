"""The decoding thread pool; how pictures become pixels is pixelserve.imaging's."""
