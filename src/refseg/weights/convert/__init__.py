"""Converters: a file per published checkpoint, from its tensors to a model folder. No encoder is loaded here."""
