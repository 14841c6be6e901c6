"""Scoring: classifiers on features, statistics, the result document."""
