"""Library. What demo and tests share: kubectl and Helm as argument lists, honest waits, clients in pods."""
