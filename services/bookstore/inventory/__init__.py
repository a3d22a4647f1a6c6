"""The inventory: how many copies are there, and for whom some of them are held back."""
