"""The optimisers of training and the step size that each takes for each predictor where none is given."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import optax

# Name -> constructor from a step size. Momentum 0.9; Adam's moments (0.9, 0.999, 1e-8) and AdamW's decay (1e-4) are
# those of optax.
OPTIMIZERS: dict[str, Callable[[Any], optax.GradientTransformation]] = {
    "gradient_descent": optax.sgd,
    "momentum": partial(optax.sgd, momentum=0.9),
    "adam": optax.adam,
    "adamw": optax.adamw,
}

# (optimiser, predictor) -> default step size. A symbol of the factored predictor collects the gradient of a third
# of all contexts where a row of the table has one context's: at 5.0 it diverges, at 2.0 it oscillates (m = 3..7).
# Momentum 0.9 multiplies the length of a step by ten. Networks: descent at 0.5 is faster, but at 1.0 one of two MLPs
# ended as NaN; Adam at 0.01 was faster too (m = 5).
STEP_SIZES: dict[tuple[str, str], float] = {
    ("gradient_descent", "table"): 5.0,
    ("gradient_descent", "factored"): 0.5,
    ("momentum", "table"): 0.5,
    ("momentum", "factored"): 0.05,
    ("adam", "table"): 0.01,
    ("adam", "factored"): 0.01,
    ("adamw", "table"): 0.01,
    ("adamw", "factored"): 0.01,
    ("gradient_descent", "mlp"): 0.2,
    ("gradient_descent", "transformer"): 0.2,
    ("gradient_descent", "transformer-tied"): 0.2,
    ("momentum", "mlp"): 0.02,
    ("momentum", "transformer"): 0.02,
    ("momentum", "transformer-tied"): 0.02,
    ("adam", "mlp"): 0.005,
    ("adam", "transformer"): 0.005,
    ("adam", "transformer-tied"): 0.005,
    ("adamw", "mlp"): 0.005,
    ("adamw", "transformer"): 0.005,
    ("adamw", "transformer-tied"): 0.005,
}
