"""What `/metrics` shows as JSON, for the supervision tree and `greenroom top`: the same numbers by name."""

from prometheus_client import CollectorRegistry

# Of histograms: nobody reads buckets by eye.
_LEFT_OUT = ("_bucket", "_created")


def numbers(registry: CollectorRegistry) -> dict[str, float]:
    """
    Every sample by its name and labels, as Prometheus writes them: `greenroom_pool_in_use{pool="requests"}`.
    """
    return {
        _name(sample.name, sample.labels): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith(_LEFT_OUT)
    }


def _name(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name
