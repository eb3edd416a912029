"""Trains classifiers from recipes and exports them, or anybody's, as model versions with their evidence.

The only place that imports TensorFlow, Keras and tf2onnx, and it does so only while it trains or converts.
"""
