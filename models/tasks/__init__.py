"""What aligned vectors are used for."""
