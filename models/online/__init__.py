"""What a tenant's stream teaches while it flows: statistics, epochs, and how a worker serves with them."""
