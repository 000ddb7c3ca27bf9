"""The few forms that nearly all PromQL of the boards has, so that each is written once and right."""

from infra.dashboards.queries import Prom


def rate(metric: str, by: str = "", where: str = "", legend: str = "__auto") -> Prom:
    """Return a counter's rate per second, summed over all but the labels ``by``."""
    inner = f"rate({metric}{_braces(where)}[$__rate_interval])"
    return Prom(f"sum by ({by}) ({inner})" if by else f"sum({inner})", legend)


def quantile(share: float, metric: str, by: str = "", where: str = "", legend: str = "") -> Prom:
    """Return a quantile of a histogram, in the unit of its bounds."""
    labels = f"le, {by}" if by else "le"
    inner = f"sum by ({labels}) (rate({metric}_bucket{_braces(where)}[$__rate_interval]))"
    return Prom(f"histogram_quantile({share:g}, {inner})", legend or f"p{share * 100:g}")


def share_within(limit: str, metric: str, by: str = "", where: str = "", legend: str = "__auto") -> Prom:
    """Return which share of a histogram's observations was at most ``limit``, which must be one of its bounds."""
    inside = ", ".join(part for part in (where, f'le="{limit}"') if part)
    good, every = (
        f"sum by ({by}) (rate({metric}_{part}[$__rate_interval]))"
        for part in (f"bucket{{{inside}}}", f"count{_braces(where)}")
    )
    return Prom(f"{good} / {every}", legend)


def heat(metric: str, where: str = "") -> Prom:
    """Return a histogram over time, for a heat map."""
    return Prom(f"sum by (le) (increase({metric}_bucket{_braces(where)}[$__rate_interval]))", "{{le}}", heatmap=True)


def _braces(where: str) -> str:
    return f"{{{where}}}" if where else ""
