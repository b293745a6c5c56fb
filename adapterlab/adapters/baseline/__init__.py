"""What every adapter is measured against."""
