"""How torch runs in these tests. (This folder is not named torch: where PyTorch is missing, `import torch` would find
it.)"""


def pytest_configure(config):
    # torch's own forward mode scripts its formulas when it is first used
    config.addinivalue_line("filterwarnings", "ignore:.torch.jit.script. is deprecated:DeprecationWarning")
    # thousands of operations on small tensors, for each of which it would wake threads that spin afterwards
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)
