"""What is done to caches to see them break: each experiment returns what it tried and what went wrong.

`make test` runs every experiment small, `make torture` large; tests/test_sabotage.py shows that each can fail.
"""
