"""The product as its users run it: a real Kubernetes, real containers, a real S3 server.

    with bed() as cluster:
        cluster.kubectl("get", "nodes")

`make up` and `make down` do the two halves by hand; `make env` tells a shell where everything is.
"""

from e2e.cluster import NAMESPACE, Cluster, bed
from e2e.s3 import S3

__all__ = ["NAMESPACE", "S3", "Cluster", "bed"]
