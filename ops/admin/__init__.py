"""What an operator does: publish, judge, look, repair."""
