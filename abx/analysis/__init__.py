"""What one can see in a method: functions of (method, model, batch) to arrays, and what draws them."""
