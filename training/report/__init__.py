"""What a run leaves for people to look at: its pictures."""

from .content import Layer, Predictions, Regression, ReportContent, Samples

__all__ = ["Layer", "Predictions", "Regression", "ReportContent", "Samples"]
