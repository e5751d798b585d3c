"""CUDA: compilers, the cache of what they made, and the driver."""
