"""Attacks on the camera, made from genuine clips: `python -m bench.attacks --help`.

A species is a module: what it does to the picture, and the parameters that it draws. All randomness comes from one
seeded generator, so that the same seed makes the same clips. They are simulations: no real paper, screen or deepfake
was filmed.
"""
