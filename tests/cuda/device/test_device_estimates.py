"""Log-determinants, likelihoods and predictions whose products are made on a GPU: the values of the CPU."""

import numpy as np
import pytest
import usual

from kernelops.numpy import KernelSolve

N = 60
DRAW = np.random.default_rng(0)
X, B, AT = DRAW.normal(size=(N, 2)), DRAW.normal(size=(N, 1)), DRAW.normal(size=(5, 2))
CALLS = {"logdet": {}, "inv_quad_logdet": {}, "predict": {"at": AT}}


@pytest.mark.parametrize("way", [{}, {"method": "cg", "precond": "jacobi", "rtol": 1e-10}], ids=["auto", "cg"])
@pytest.mark.parametrize("method", CALLS)
def test_backend_gpu(gpu, method, way):
    call = getattr(KernelSolve(usual.GAUSS, usual.aliases(2, 1), "b", axis=1), method)
    with gpu.current():
        there, here = (call(X, X, B, alpha=0.5, backend=b, **CALLS[method], **way) for b in ("GPU", "CPU"))
    for found, wanted in zip(there, here, strict=True):
        assert isinstance(found, type(wanted))
        np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9)
