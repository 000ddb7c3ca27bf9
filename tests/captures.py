"""Where the recorded captures lie: ``../shared/data`` beside the checkout. They are not part of the repository."""

from pathlib import Path

CAPTURES = Path(__file__).resolve().parents[2] / "shared" / "data"
USDM_20240808 = CAPTURES / "binance" / "usdm-btcusdt-20240808.gz"
SPOT_20240808 = CAPTURES / "binance" / "spot-btcusdt-20240808.gz"
SPOT_20240809 = CAPTURES / "binance" / "spot-btcusdt-20240809.gz"
