"""What a learner keeps of a tenant's stream, and the epochs that it makes of it."""
