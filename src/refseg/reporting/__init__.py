"""From scored expressions to a report: intervals, breakdowns, kinds of failure, and one page with pictures."""
