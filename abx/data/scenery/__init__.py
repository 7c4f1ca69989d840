"""What `scenes` is made of: random numbers, a layout, its painting and its words."""
