"""How good features are: frozen features and what is known of the pictures in, figures out."""
