"""What runs inside a Job's pod: one task in, one Result out, no access to the API server."""
