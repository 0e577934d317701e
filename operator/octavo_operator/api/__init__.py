"""API of the custom resource. What users write and read: the custom resource's versions, its value types and
its conditions."""
