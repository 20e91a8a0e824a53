"""The sections of a run's page: a file each, with a function from `RunReport` to its content."""
