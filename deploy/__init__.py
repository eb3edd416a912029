"""Everything that deploys PixelServe, and its checks."""
