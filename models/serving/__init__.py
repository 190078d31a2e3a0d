"""How a worker applies an epoch: query adaptation, hubness, label feedback, tenant maps."""
