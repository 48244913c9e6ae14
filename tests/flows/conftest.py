import pytest

from .clusters import Cluster


@pytest.fixture
def start_cluster(process_environment):
    """Start clusters that are gone after the test: start_cluster(), start_cluster("minutes")."""
    clusters: list[Cluster] = []

    def start(name: str = "") -> Cluster:
        clusters.append(Cluster(process_environment, name))
        return clusters[-1]

    yield start
    for cluster in clusters:
        cluster.stop()
        # Shown beside a failure.
        print(f"--- the cluster {cluster.process.pid} said:\n{cluster.output()}")
