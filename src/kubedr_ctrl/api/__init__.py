"""What users write and read: the four kinds, conditions, a worker's task and its result."""
