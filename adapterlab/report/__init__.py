"""What people see: one HTML file, and the table on the terminal."""
