"""Decisions: `reconcile(observed, now) -> Plan`, pure, one file a kind."""
