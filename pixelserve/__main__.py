"""`python -m pixelserve`: the same as the `pixelserve` command."""

from .cli import main

main()
