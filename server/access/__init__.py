"""Who may call what: tokens, what each method needs, and which addresses may be listened on without."""
