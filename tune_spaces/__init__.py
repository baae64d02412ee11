"""Search spaces of `raffect tune`, one module each; copy one to make your own.

A space is a function that asks an Optuna trial for values (define-by-run: later questions may
depend on earlier answers) and returns what they change in the base configuration, by dotted key.
Parameters are named by those keys, so that trial 0 can be the base configuration itself. Hence
the base, with its `--set`, has to lie in the space; what is not searched can be set freely:

    raffect tune va --set model.width=256 --space my_space.py
"""
