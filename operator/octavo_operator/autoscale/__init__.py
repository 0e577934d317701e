"""Replicas follow the queue: read it (`prometheus`), decide (`decide`), try it out (`simulate`)."""
