"""`kubedrctl`, for people and for the chart's hooks: asks the API server, never the controller."""
