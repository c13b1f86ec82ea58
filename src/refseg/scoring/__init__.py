"""Scoring: masks to numbers, reports and comparisons. Nothing here changes a weight or knows a method."""
