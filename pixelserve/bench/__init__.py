"""A load generator for a PixelServe server: closed and open loop, latency from the intended start."""
