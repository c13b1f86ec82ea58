"""The command line: parses, calls, prints; a file per command. Nothing is computed here."""
