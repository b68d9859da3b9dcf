"""Real servers as plain processes on loopback, for integration tests.

Each module offers a context manager: what it started runs when it is entered and is gone when it is left,
however it is left. tests/conftest.py has them as fixtures of the whole session.
"""
