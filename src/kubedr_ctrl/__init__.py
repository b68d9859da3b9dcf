"""KubeDR: backs up a Kubernetes cluster's etcd and certificates to S3, and says the truth about it."""

__version__ = "0.1.0"
