"""Predictions with a model or with a sweep's trial: of splits, crops, videos and streams."""
