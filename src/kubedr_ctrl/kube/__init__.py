"""The API server: requests, watches, caches, queues. Knows nothing of KubeDR."""
