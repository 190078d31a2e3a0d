"""What a worker applies of an epoch: query adaptation, hubness, feedback, a tenant's maps."""
