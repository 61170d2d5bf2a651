"""How things are measured: contenders that take turns, and counts of kernels and of what crosses to a device."""
