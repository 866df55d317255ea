"""
A soak: sessions come, upgrade, talk and vanish, some hundred a second, and in the end nothing may be left of them.

    python -m tests.soak                        # ten minutes, as `make soak`
    SOAK_SECONDS=60 python -m tests.soak

`__main__` starts the programs, measures, and judges; `server` is the application, `load` the clients, of whom many do
something wrong, `clients` those of the package, `plan` what all know: how a session goes, and what message has which
number.
"""
