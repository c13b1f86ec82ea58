"""Checks: what is wrong with data, and which data it is. Nothing here feeds a training or an evaluation with pixels."""
