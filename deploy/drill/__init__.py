"""`make drill`: servers are restarted, updated, killed and overloaded behind balancers while clients call them."""
