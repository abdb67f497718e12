"""`omnialpha studio`: the page and the service in one process."""
