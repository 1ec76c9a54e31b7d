"""Prints tests/unit/learn/metrics_golden.h: predictions from a seed, and what scikit-learn 1.2.1 says of them.

    /usr/bin/python3 tests/golden/metrics.py > tests/unit/learn/metrics_golden.h      (Debian's python3-sklearn)
"""

import numpy as np
from sklearn import metrics as M


def row(values, text):
    return ", ".join(text(v) for v in values)


def array(kind, name, values, text):
    values = np.asarray(values).ravel()
    lines = [row(values[i:i + 12], text) for i in range(0, len(values), 12)]
    print(f"static const {kind} {name}[] = {{\n    " + ",\n    ".join(lines) + "};")


def figures(name, pairs):
    print(f"static const struct golden_figure {name}[] = {{")
    for key, value in pairs:
        print(f'    {{"{key}", {float(value)!r}}},')
    print("};")


def classes(name, n, rows, seed):
    """Probabilities in 64ths, so that floats hold them exactly and some are tied."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n, rows)
    p = rng.integers(1, 40, (rows, n)).astype(float)
    p[np.arange(rows), truth] += rng.integers(0, 25, rows)
    p = np.floor(64 * p / p.sum(axis=1, keepdims=True))
    p[:, 0] += 64 - p.sum(axis=1)
    p = np.maximum(p, 1)
    p[np.arange(rows), p.argmax(axis=1)] -= p.sum(axis=1) - 64
    p /= 64
    guess = p.argmax(axis=1)
    auc = M.roc_auc_score(truth, p[:, 1]) if n == 2 else M.roc_auc_score(truth, p, multi_class="ovr", average="macro")
    array("float", f"{name}_p", p, lambda v: f"{v!r}F")
    array("int32_t", f"{name}_truth", truth, str)
    array("int64_t", f"{name}_confusion", M.confusion_matrix(truth, guess, labels=range(n)), str)
    macro, micro = dict(average="macro", zero_division=0), dict(average="micro", zero_division=0)
    loss = M.log_loss(truth, p, labels=range(n))
    figures(f"{name}_figures", [
        ("accuracy", M.accuracy_score(truth, guess)), ("precision_macro", M.precision_score(truth, guess, **macro)),
        ("recall_macro", M.recall_score(truth, guess, **macro)), ("f1_macro", M.f1_score(truth, guess, **macro)),
        ("f1_micro", M.f1_score(truth, guess, **micro)), ("auc", auc), ("log_loss", loss), ("loss", loss)])
    print(f"static const double {name}_perplexity = {float(np.exp(loss))!r};")


def numbers(name, targets, rows, seed):
    rng = np.random.default_rng(seed)
    truth = np.round(rng.normal(3, 20, (rows, targets)), 2)
    guess = np.round(truth * 0.9 + rng.normal(0, 6, (rows, targets)), 2)
    mse = M.mean_squared_error(truth, guess)
    array("double", f"{name}_guess", guess, repr)
    array("double", f"{name}_truth", truth, repr)
    figures(f"{name}_figures", [("mse", mse), ("rmse", mse ** 0.5), ("mae", M.mean_absolute_error(truth, guess)),
                                ("r2", M.r2_score(truth, guess))])


print("/* Made by tests/golden/metrics.py with scikit-learn 1.2.1; not written by hand. */")
print("#ifndef TESTS_UNIT_LEARN_METRICS_GOLDEN_H\n#define TESTS_UNIT_LEARN_METRICS_GOLDEN_H\n")
print("#include <stdint.h>\n\nstruct golden_figure {\n    const char *name;\n    double value;\n};\n")
classes("two", 2, 40, 1)
classes("four", 4, 50, 2)
numbers("one", 1, 30, 3)
numbers("three", 3, 20, 4)
print("\n#endif")
