"""Reading and writing of files under limits."""
