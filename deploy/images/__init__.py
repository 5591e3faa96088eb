"""The images: one Dockerfile, and what carries out and checks its steps where there is no Docker."""
