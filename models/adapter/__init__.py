"""An adapter maps the vectors of one encoder to aligned vectors: its value, its steps, and what steers them."""
