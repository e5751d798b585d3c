"""What LazyTensor says where KeOps answers oddly: the table of keops_quirks.py, executed."""

import pytest
from keops_quirks import QUIRKS

pytest.importorskip("torch")


@pytest.mark.parametrize("expression, keops, wanted", QUIRKS, ids=[row[0][:40] for row in QUIRKS])
def test_the_answer_to(expression, keops, wanted):
    from quirk_names import answer

    got = answer(expression)
    assert got.startswith(wanted.removesuffix("...")) if wanted.endswith("...") else got == wanted


def test_the_table_has_each_expression_once():
    expressions = [row[0] for row in QUIRKS]
    assert len(set(expressions)) == len(expressions) > 140
