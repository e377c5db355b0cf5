"""The suite for a machine with a GPU: a driver of the standard library alone, and its parts.

`__main__` reads the command line, `parts` says what is run and for how long, `runner` runs it,
`processes` ends what does not end by itself, `results` keeps what is known on disk, `supervise`
and `progress` let a unit of work that ends its process (a test, a row of a bench) cost itself
alone. `facts`, `build`, `warm` and `pytest_progress` run in processes of their own.
"""
