"""Where vision encoders come from: one file for each library, and the contract that all of them meet."""
