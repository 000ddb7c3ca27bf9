"""The set policy's network in torch, tensor for tensor what workers evaluate with numpy: what is trained is served.

Each vote goes through one and the same small network (phi); mean and weighted sum over the votes present do not depend
on their order or number (Zaheer et al., "Deep Sets", NeurIPS 2017). rho and the head read both beside the context. The
head speaks quantiles while it learns (Dabney et al., "Distributional Reinforcement Learning with Quantile Regression",
AAAI 2018); the policy wants their mean, and the mean of linear layers is a linear layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import QRDQN
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from streams.training.normalisation import Normalisation

Weights = dict[str, NDArray[np.float32]]
_PHI: Final = ("phi.0", "phi.1")
_RHO: Final = ("rho.0", "rho.1")


@dataclass(frozen=True, slots=True)
class NetworkShape:
    """Widths of the two layers of phi and of rho, and which feature of a vote is its weight."""

    weight_feature: int
    phi: tuple[int, int] = (32, 32)
    rho: tuple[int, int] = (64, 64)
    quantiles: int = 32


class VoteSetExtractor(BaseFeaturesExtractor):  # type: ignore[misc]
    """From ``{votes [B, M, V], present [B, M], context [B, C]}`` to ``[B, 2 phi + C]``: both pools, and the context."""

    def __init__(self, observation_space: Any, shape: NetworkShape, normalisation: Normalisation) -> None:
        votes, context = observation_space["votes"].shape[1], observation_space["context"].shape[0]
        super().__init__(observation_space, features_dim=2 * shape.phi[1] + context)
        self.phi = nn.Sequential(
            nn.Linear(votes, shape.phi[0]), nn.ReLU(), nn.Linear(shape.phi[0], shape.phi[1]), nn.ReLU()
        )
        self.weight_feature = shape.weight_feature
        for name in ("votes_mean", "votes_scale", "context_mean", "context_scale"):
            self.register_buffer(name, torch.as_tensor(getattr(normalisation, name)).clone())

    def forward(self, seen: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return both pools of the votes present, then the normalised context."""
        # Most places are empty, and leaving them out is most of what the step would cost.
        present = seen["present"]
        owners, places = present.nonzero(as_tuple=True)
        votes = seen["votes"][owners, places]
        said = self.phi((votes - self.votes_mean) / self.votes_scale)
        both = torch.cat((said, said * votes[:, self.weight_feature].unsqueeze(-1)), dim=1)
        pools = both.new_zeros((len(present), both.shape[1])).index_add(0, owners, both)
        counts = present.sum(dim=1, keepdim=True).clamp(min=1.0)
        context = (seen["context"] - self.context_mean) / self.context_scale
        width = said.shape[1]
        return torch.cat((pools[:, :width] / counts, pools[:, width:], context), dim=1)


def policy_arguments(shape: NetworkShape, normalisation: Normalisation) -> dict[str, Any]:
    """Return what makes stable-baselines3's ``MultiInputPolicy`` this network."""
    return {
        "features_extractor_class": VoteSetExtractor,
        "features_extractor_kwargs": {"shape": shape, "normalisation": normalisation},
        "net_arch": list(shape.rho),
        "n_quantiles": shape.quantiles,
        "activation_fn": nn.ReLU,
    }


def export(model: QRDQN) -> Weights:
    """Return the tensors that the worker's policy takes, float32, the quantiles averaged into the head."""
    network = model.policy.quantile_net
    extractor: VoteSetExtractor = network.features_extractor
    first, second, head = _linear(network.quantile_net)
    weights: Weights = {}
    for names, layers in ((_PHI, _linear(extractor.phi)), (_RHO, (first, second))):
        for name, layer in zip(names, layers, strict=True):
            weights[f"{name}.weight"], weights[f"{name}.bias"] = _array(layer.weight), _array(layer.bias)
    actions = int(model.action_space.n)
    quantiles = head.out_features // actions
    by_quantile = _array(head.weight).astype(np.float64).reshape(quantiles, actions, head.in_features)
    weights["head.weight"] = by_quantile.mean(axis=0).astype(np.float32)
    biases = _array(head.bias).astype(np.float64).reshape(quantiles, actions)
    weights["head.bias"] = biases.mean(axis=0).astype(np.float32)
    for group in ("votes", "context"):
        for part in ("mean", "scale"):
            weights[f"{group}.{part}"] = _array(getattr(extractor, f"{group}_{part}"))
    return weights


def import_weights(model: QRDQN, weights: Mapping[str, NDArray[np.float32]]) -> None:
    """Let a model go on from exported tensors, its target network too; every quantile begins at their mean.

    Raises KeyError for a tensor that is missing and ValueError for one of another shape; the model is then unusable.
    """
    for network in (model.policy.quantile_net, model.policy.quantile_net_target):
        extractor: VoteSetExtractor = network.features_extractor
        first, second, head = _linear(network.quantile_net)
        for names, layers in ((_PHI, _linear(extractor.phi)), (_RHO, (first, second))):
            for name, layer in zip(names, layers, strict=True):
                _copy(layer.weight, weights[f"{name}.weight"], name)
                _copy(layer.bias, weights[f"{name}.bias"], name)
        quantiles = head.out_features // int(model.action_space.n)
        _copy(head.weight, np.tile(weights["head.weight"], (quantiles, 1)), "head")
        _copy(head.bias, np.tile(weights["head.bias"], quantiles), "head")
        for group in ("votes", "context"):
            for part in ("mean", "scale"):
                _copy(getattr(extractor, f"{group}_{part}"), weights[f"{group}.{part}"], f"{group}.{part}")


def normalisation_of(weights: Mapping[str, NDArray[np.float32]]) -> Normalisation:
    """Return the normalisation that belongs to exported tensors."""
    names = ("votes.mean", "votes.scale", "context.mean", "context.scale")
    return Normalisation(*(np.asarray(weights[name], dtype=np.float32) for name in names))


def _linear(layers: nn.Sequential) -> Sequence[nn.Linear]:
    return [layer for layer in layers if isinstance(layer, nn.Linear)]


def _array(tensor: torch.Tensor) -> NDArray[np.float32]:
    return np.array(tensor.detach().cpu().numpy(), dtype=np.float32)


def _copy(into: torch.Tensor, values: NDArray[np.float32], name: str) -> None:
    if tuple(into.shape) != values.shape:
        raise ValueError(f"The tensor {name} has the shape {values.shape}, not {tuple(into.shape)}.")
    with torch.no_grad():
        into.copy_(torch.as_tensor(np.ascontiguousarray(values, dtype=np.float32)))
