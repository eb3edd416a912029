"""From a picture as people send it to the pixels that a model takes. No network, no model."""
