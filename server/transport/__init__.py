"""How bytes arrive. A transport hands the dispatcher (method, bytes, call) and knows nothing of what they mean."""
