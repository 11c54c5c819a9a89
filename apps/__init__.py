"""The doors: the command line. Each is a thin skin over `plait.retriever` and `plait.eval`."""
