"""Training: presets and data in, weights out."""
