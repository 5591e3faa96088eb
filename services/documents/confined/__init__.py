"""Code that parses uploads. It runs only in worker processes that mesh.worker confines: no network, bounded memory.

pyHanko is imported nowhere else in this room.
"""
