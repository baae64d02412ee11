"""What is wrong with a machine, a cluster or a store, and what to do about it.

`examine.py` asks, the `look_*` functions answer with facts, wherever they run, and the `check_*`
modules turn facts into findings. Facts travel, checks are pure.
"""
