"""What is asked: traces read, request sizes learnt, daily shapes, monthly forecasts."""
