"""Parts that at least two methods use."""
