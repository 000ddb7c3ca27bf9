"""What all tests share: the servers' fixtures, and hypothesis without wall-clock deadlines."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["servers"]

# A loaded machine is not a failing test: no deadline, and no complaint that data is slow to make.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
