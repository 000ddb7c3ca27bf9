"""The same network with another normalisation: what it was trained with is taken out of its first layers and put back.

Training fits the normalisation on somebody who wanders about, before there is a policy. What is shipped should say what
inputs look like under the policy itself, since a watch over drift measures by that. For a layer W x + b on standardised
inputs both are the same function:

    W (x - m) / s + b  =  W' (x - m') / s' + b'      W' = W diag(s' / s),  b' = b + W ((m' - m) / s)
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from streams.training.normalisation import Normalisation

Floats = NDArray[np.float32]


def restandardised(weights: Mapping[str, Floats], normalisation: Normalisation) -> dict[str, Floats]:
    """Return tensors that give the same Q, to float32, by this normalisation instead of their own."""
    pools = 2 * len(weights["phi.1.bias"])
    changed = dict(weights)
    for layer, group, first in (("phi.0", "votes", 0), ("rho.0", "context", pools)):
        mean, scale = (getattr(normalisation, f"{group}_{part}") for part in ("mean", "scale"))
        was_mean, was_scale = (weights[f"{group}.{part}"].astype(np.float64) for part in ("mean", "scale"))
        weight = weights[f"{layer}.weight"].astype(np.float64)
        read = weight[:, first:]
        bias = weights[f"{layer}.bias"] + read @ ((mean.astype(np.float64) - was_mean) / was_scale)
        weight[:, first:] = read * (scale / was_scale)
        changed |= {f"{layer}.weight": weight.astype(np.float32), f"{layer}.bias": bias.astype(np.float32)}
        changed |= {f"{group}.mean": mean, f"{group}.scale": scale}
    return changed
