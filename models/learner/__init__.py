"""The state that the learner keeps of a tenant's stream, and the epochs made from it."""
