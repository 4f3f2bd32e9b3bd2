"""The controlled study: which method teaches these students best, and when."""
