"""The verbs on tasks, and the rules behind them."""
