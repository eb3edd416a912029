"""Access control: tokens, what each method requires, and which addresses may be served without."""
