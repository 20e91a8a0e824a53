import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from datasets.class_weights import balanced_weights, read_class_weights
from utils.errors import UserError


def test_balanced_weights_equal_scikit_learns():
    labels = np.array([0, 0, 0, 2, 3, 3])
    weights, present = balanced_weights(labels, 5), np.array([0, 2, 3])
    np.testing.assert_allclose(weights[present], compute_class_weight("balanced", classes=present, y=labels))
    assert weights[[1, 4]].tolist() == [1, 1] and weights[labels].mean() == pytest.approx(1)


def test_weights_from_a_file(tmp_path):
    (tmp_path / "w.csv").write_text("id,weight\n1,0.5\n0,2\n")
    assert read_class_weights(str(tmp_path / "w.csv"), 2).tolist() == [2, 0.5]


@pytest.mark.parametrize(
    ("lines", "part"),
    [
        ("0,1\n1,1\n", "w.csv: expected the header"),
        ("id,weight\n0,1\n", "w.csv: no line for class id 1"),
        ("id,weight\n0,1\n0,1\n", "w.csv:3: class id 0 is outside 0..1, or given twice"),
        ("id,weight\n0,1\n2,1\n", "w.csv:3: class id 2"),
        ("id,weight\n0,x\n", "w.csv:2: '0,x' is not"),
        ("id,weight\n0,1,5\n1,2\n", "w.csv:2: '0,1,5' is not"),
        ("id,weight\n0,-1\n", "w.csv:2: weight is -1"),
        ("id,weight\n0,nan\n", "w.csv:2: weight is nan"),
        ("id,weight\n0,0\n1,0\n", "w.csv: all weights are 0"),
    ],
)
def test_errors_in_a_file(tmp_path, lines, part):
    (tmp_path / "w.csv").write_text(lines)
    with pytest.raises(UserError, match=part):
        read_class_weights(str(tmp_path / "w.csv"), 2)
