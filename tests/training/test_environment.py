"""stable-baselines3's own view of the training environment."""

import environments
import pytest

pytestmark = pytest.mark.train


@pytest.mark.filterwarnings("ignore:Your observation votes has an unconventional shape")
def test_its_checker_finds_nothing() -> None:
    """Votes are rows on purpose: the network reads them as a set."""
    from stable_baselines3.common.env_checker import check_env

    check_env(environments.environment(dropout=0.3), warn=True, skip_render_check=True)


def test_it_runs_in_a_vector_of_environments() -> None:
    from stable_baselines3.common.vec_env import DummyVecEnv

    vector = DummyVecEnv([lambda: environments.environment(steps=5)])
    vector.seed(3)
    vector.reset()
    over = [bool(vector.step([4])[2][0]) for _ in range(10)]
    assert over == ([False] * 4 + [True]) * 2
