"""Trains classifiers from recipes and exports them, or anybody's, as model versions with their evidence.

The only place that imports TensorFlow, Keras and tf2onnx, and it does so only while it trains or converts. The names
below are the Python API (docs/training-api.md); each is imported on first use, so a part of the package works with the
libraries of that part.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import evaluate, export, fit
    from .datasets import Dataset
    from .datasets.arrays import from_arrays
    from .errors import TrainingError
    from .learners.backprop import BackpropRecipe
    from .learners.logistic import LogisticRecipe
    from .recipe import Ensemble, Goal, KerasRecipe, Optimizer, Recipe, Regularization, Teacher

__all__ = [
    "BackpropRecipe",
    "Dataset",
    "Ensemble",
    "Goal",
    "KerasRecipe",
    "LogisticRecipe",
    "Optimizer",
    "Recipe",
    "Regularization",
    "Teacher",
    "TrainingError",
    "evaluate",
    "export",
    "fit",
    "from_arrays",
]

_MODULES = {
    "BackpropRecipe": "learners.backprop",
    "Dataset": "datasets",
    "LogisticRecipe": "learners.logistic",
    "TrainingError": "errors",
    "evaluate": "api",
    "export": "api",
    "fit": "api",
    "from_arrays": "datasets",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f".{_MODULES.get(name, 'recipe')}", __name__), name)
