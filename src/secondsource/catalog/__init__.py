"""What can be rented: chips and offers as dated, sourced facts."""
