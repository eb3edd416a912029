"""From picture files to the pixels that a model takes, the same in the server and in training."""
