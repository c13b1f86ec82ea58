"""Weights: models on disk, what a run begins with, published encoders, and converters. No network is defined here."""
