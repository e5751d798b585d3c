"""What the GPU engine is made of: compilers of CUDA text, the cache of what they made, and the device that runs it."""
