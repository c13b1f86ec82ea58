"""Encoders: pixels or words in, features out. No paper of this package lives here, only what they build on."""
