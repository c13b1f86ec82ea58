"""Formats: files that people have, read and written. What is asked of the samples is decided one room up."""
