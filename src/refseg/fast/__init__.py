"""The same answers sooner: what a network becomes when it only answers, in which precision, on which processor."""
