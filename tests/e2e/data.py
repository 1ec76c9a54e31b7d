"""Small data that tests train on, made from a seed."""

import random


def line_csv(rows=200, slope=3.0, intercept=2.0, noise=0.1, seed=1):
    rng = random.Random(seed)
    lines = ["x,y"]
    for _ in range(rows):
        x = rng.uniform(0, 10)
        lines.append(f"{x:.6f},{slope * x + intercept + rng.gauss(0, noise):.6f}")
    return "\n".join(lines) + "\n"


def flowers_csv(rows=150, seed=1):
    """Three clouds with the means of the classic flower measurements: text labels, four numbers."""
    rng = random.Random(seed)
    means = {"setosa": (5.0, 3.4, 1.5, 0.2), "versicolor": (5.9, 2.8, 4.3, 1.3), "virginica": (6.6, 3.0, 5.6, 2.0)}
    lines = ["sepal_length,sepal_width,petal_length,petal_width,species"]
    for i in range(rows):
        name = list(means)[i % 3]
        lines.append(",".join(f"{rng.gauss(m, 0.3):.2f}" for m in means[name]) + f",{name}")
    return "\n".join(lines) + "\n"


def mixed_csv(rows=200, seed=1):
    """A number and a category that together decide the label."""
    rng = random.Random(seed)
    lines = ["size,colour,kind"]
    for _ in range(rows):
        size, colour = rng.uniform(-1, 1), rng.choice(["red", "green", "blue"])
        lines.append(f"{size:.4f},{colour},{'yes' if (size > 0) == (colour == 'red') else 'no'}")
    return "\n".join(lines) + "\n"


# A job that takes long enough to be interrupted: many epochs over little data, no early stop.
def slow_spec(epochs=100000):
    return {"target": "species", "family": "mlp", "architecture": [{"layer": "Dense", "units": 16, "activation": "relu"}, {"layer": "Dense", "units": 3}],
            "training": {"epochs": epochs, "batch_size": 8, "seed": 1}}
