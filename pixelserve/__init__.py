"""PixelServe: small image classifiers, from a public data set to a production endpoint.

This package is what others import and run: generated protocol stubs (`pixelserve.oip`), the evidence format that
training and server share (`pixelserve.card`) and the `pixelserve` command. Importing it loads none of them.
"""

__version__ = "0.1.0"
