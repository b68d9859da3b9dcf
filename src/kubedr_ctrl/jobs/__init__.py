"""Manifests of the CronJob and the Jobs, one file an operation."""
