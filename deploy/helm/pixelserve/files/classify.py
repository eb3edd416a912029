"""Classifies the digits in the image, and compares the labels with their file names.

python classify.py HOST:PORT MODEL TOKEN_FILE [CA_FILE]
"""

import sys
from pathlib import Path

from pixelserve.client import Client, Tls

# Named digit-LABEL-….png.
PICTURES = Path("/opt/pixelserve/examples/mnist")


def main(address: str, model: str, token_file: str, ca: str | None = None) -> None:
    """Exits with 1 if a label differs.

    Args:
        address: HOST:PORT of the server.
        model: the name of a classifier of digits.
        token_file: a file with a token of scope infer.
        ca: a PEM file of the CA of the server's certificate; None: no TLS.
    """
    token = Path(token_file).read_text().strip()
    paths = sorted(PICTURES.glob("digit-*.png"))
    with Client(address, token=token, tls=Tls(ca=ca) if ca else None, token_over_plain_text=ca is None) as client:
        predictions = client.classify(paths, model=model)
    answers = {path.name: got.label for path, got in zip(paths, predictions, strict=True)}
    wrong = [name for name, label in answers.items() if label != name.split("-")[1]]
    print(*(f"{name}: {label}" for name, label in answers.items()), sep="\n")
    print(f"{len(paths)} pictures, {len(wrong)} wrong")
    sys.exit(not paths or bool(wrong))


if __name__ == "__main__":
    main(*sys.argv[1:])
