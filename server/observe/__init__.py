"""What an operator sees: metrics and logs. They are told what happens; only queue lengths are asked for."""
