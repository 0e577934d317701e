"""Start-up of an executor: device, number formats, what fits into memory, phases."""
