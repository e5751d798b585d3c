"""The CUDA driver, its compilers and the cache of what they made, through PyCUDA.

device.py is the door: `device(number)` gives a Device, which compiles a kernel's text, allocates, copies, launches
and synchronises. driver.py says whether there is a driver, context.py makes its contexts current, function.py is a
loaded kernel, compilers.py turns text into machine code by NVRTC or nvcc, cache.py remembers the code in memory and
on disk, locate.py finds the libraries and programs of CUDA.

Nothing here knows a formula, an array library or ranges. It imports the text of programs (for the folders of the
headers) and kernelops.errors; kernelops.arrays and kernelops.engines import it. PyCUDA is imported only when a device
is first asked for. Begin with device.py.
"""
