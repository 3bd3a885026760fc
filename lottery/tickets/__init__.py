"""Pure: masks, tickets, what must hold of them, and which task trains which."""
