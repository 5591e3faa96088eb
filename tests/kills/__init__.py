"""Kill rounds: the signer, the CA and PostgreSQL die by SIGKILL at random moments while people use them.

`make kills` runs 200 rounds; `test_rounds` a few of them.
"""
