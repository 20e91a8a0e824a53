"""The sections of the page of two runs: a file each, with a function from `Comparison` to its content."""
