"""What looks at a cache that is there: verify, diff, gc, and the gate before libhdf5."""
